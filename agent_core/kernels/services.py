"""What the building of kernels needs of the rest of the agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from agent_core.contracts.backend import ContainerBackend
from agent_core.contracts.runner import KernelRunner
from agent_core.events.bus import EventBus
from agent_core.host.stray_workers import StrayWorkers
from agent_core.host.supervisor import LoadedPlugin
from agent_core.kernels.cores import Cores
from agent_core.kernels.devices import DeviceService
from agent_core.kernels.key_pairs import KeyPairs
from agent_core.kernels.logs import LogStore
from agent_core.kernels.ports import PortPool
from agent_core.kernels.ports_file import PortsFile
from agent_core.kernels.pulling import Pulls
from agent_core.kernels.runner.bundle import RunnerBundle
from agent_core.kernels.sharing import Sharing
from agent_core.kernels.tls.fronts import TlsFronts
from agent_core.kernels.turns import Turns
from agent_core.kernels.user import OWN, User
from agent_core.ledger import Ledger
from agent_core.resources.allocator import Allocator


@dataclass(slots=True)
class Settings:
    """The configuration of the kernels' room; a reload renews it, so ask for it at each use.

    Attributes:
        agent_id: The owner of every container.
        run_root: Where the kernels' sockets are; short, since a socket's path is bounded.
        stop_grace: Seconds between asking a container to end and killing it.
        init_timeout: Seconds that a runner has to connect.
        call_timeout: Seconds for one call of the backend.
        retention: Seconds that ended kernels and their events are kept.
        log_limit: Bytes of output kept for one kernel.
        scratch_size: Bytes of scratch for a kernel that asks for no size; None is without limit.
        retry_first: Seconds before the first retry of what could not be given back.
        retry_most: Seconds between two retries at the most.
        look_interval: Seconds between two looks for what happened without a word; None for looks
            only after an interruption of the backend's events.
        stranger_policy: What is done with what nobody holds: report or remove.
        stranger_grace: Seconds that such a thing must have been seen for.
        advertised_host: Where callers reach the ports that kernels publish.
        pull_timeout: Seconds that fetching one image may take; None is without limit.
        commit_timeout: Seconds that making a container into an image may take, or None.
        push_timeout: Seconds that sending an image to its registry may take, or None.
        cores: What is done with core files; None where kernels may write none for us.
        debug_runners: Whether runners note what they hear and say in the kernel's log.
        log_kernel_config: Whether what each container is made of is logged.
        log_alloc_map: Whether what is granted of the devices is logged at each change.
        log_backend_events: Whether each event of the backend is logged.
        built_in_services: The system's own services that every kernel publishes.
        keep_ended: Whether containers that have ended are left to be looked at.
        kernel_user: As whom kernels run, where the backend isolates them.
        commit_path: The directory of archives of images.
    """

    agent_id: str
    run_root: Path
    stop_grace: float = 10.0
    init_timeout: float = 60.0
    call_timeout: float = 60.0
    retention: float = 7 * 86400.0
    log_limit: int = 10 << 20
    scratch_size: int | None = None
    retry_first: float = 0.5
    retry_most: float = 60.0
    look_interval: float | None = 10.0
    stranger_policy: str = "report"
    stranger_grace: float = 300.0
    advertised_host: str = "127.0.0.1"
    pull_timeout: float | None = 7200.0
    commit_timeout: float | None = 600.0
    push_timeout: float | None = None
    cores: Cores | None = None
    debug_runners: bool = False
    log_kernel_config: bool = False
    log_alloc_map: bool = False
    log_backend_events: bool = False
    keep_ended: bool = False
    kernel_user: User = OWN
    commit_path: Path = Path("commits")
    built_in_services: tuple[str, ...] = ()

    def renew(self, other: Settings) -> None:
        """Take over what another one says."""
        for item in fields(self):
            setattr(self, item.name, getattr(other, item.name))

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each retry, growing, without end."""
        pause = self.retry_first
        while True:
            yield pause
            pause = min(pause * 2, self.retry_most)


@dataclass(frozen=True, slots=True)
class Services:
    """The services that steps and owners call.

    Attributes:
        runner: What starts in each container; None where the backend brings its own.
        bundle: What the containers have mounted of it.
        ports_file: Where it is written down what is published; None where nobody asked for that.
    """

    settings: Settings
    ledger: Ledger
    bus: EventBus
    allocator: Allocator
    devices: DeviceService
    backend: ContainerBackend
    scratch: LoadedPlugin
    runner: KernelRunner | None
    logs: LogStore
    ports: PortPool
    pulls: Pulls
    key_pairs: KeyPairs
    bundle: RunnerBundle
    turns: Turns = field(default_factory=Turns)
    sharing: Sharing = field(default_factory=Sharing)
    stray_workers: StrayWorkers = field(default_factory=StrayWorkers)
    tls: TlsFronts = field(default_factory=TlsFronts)
    ports_file: PortsFile | None = None
