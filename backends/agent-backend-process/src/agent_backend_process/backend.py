"""The process backend: each container is a plain process tree under a shim that outlives the agent.

Everything that blocks runs in the backend's own threads. An exit is learned from a pidfd on the
shim, which ends only after it has recorded that nothing of its container is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_backend_process import processes
from agent_backend_process.cgroups import CgroupTree
from agent_backend_process.containers import Containers
from agent_backend_process.declaration import EDITS, INFO, PIDS_LIMIT, facts
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.images import Interpreters
from agent_backend_process.keeper import Keeper, look
from agent_backend_process.logs import LogReader
from agent_backend_process.observation import Observation, observe
from agent_backend_process.strays import stray_status
from agent_backend_process.threads import Threads
from agent_backend_process.verification import differences
from agent_core.contracts.backend import (
    BackendEvent,
    ContainerBackend,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    Handles,
    Image,
    Paths,
    Presence,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import NotFound, PluginDisabled
from agent_core.contracts.info import Reconfigured, Support

_FOLLOW_PERIOD = 0.05


class ProcessBackend(ContainerBackend):
    """Runs containers as processes of this host.

    Attributes:
        kill_method: ``cgroup`` where a container is killed whole by its cgroup, else
            ``process-tree``; known after `start_up`.
    """

    info = INFO
    edits = EDITS

    def __init__(self) -> None:
        self.kill_method = "process-tree"
        self._images = Interpreters()
        self._kill = "auto"
        self._owner = ""
        self._pids_limit: int | None = None
        self._tree = CgroupTree(())
        self._threads: Threads | None = None
        self._containers: Containers | None = None
        self._keeper: Keeper | None = None

    # -- its own life ------------------------------------------------------------------------

    def open(self, config: Mapping[str, Any]) -> None:
        """Take the configuration; the host's kernel must have pidfds (Linux 5.3).

        Raises:
            InvalidConfig: when a configured interpreter is not there.
            PluginDisabled: when the host lacks what every container needs.
        """
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (AttributeError, OSError) as exc:
            raise PluginDisabled(f"this host has no pidfds: {exc}", plugin="process") from exc
        self._images = Interpreters(config.get("images"))
        self._kill = str(config.get("kill", "auto"))
        self._pids_limit = config.get("pids-limit")

    def reconfigure(self, config: Mapping[str, Any]) -> Reconfigured:
        """Take other images at once; what cgroups are for stays until a restart."""
        self._images = Interpreters(config.get("images"))
        asked = (str(config.get("kill", "auto")), config.get("pids-limit"))
        same = asked == (self._kill, self._pids_limit)
        return Reconfigured.APPLIED if same else Reconfigured.NEEDS_RESTART

    async def start_up(self, owner: str, state_dir: str) -> None:
        """Find the containers of this agent again.

        Raises:
            PluginDisabled: when cgroups, or what they are to bound, are demanded and not permitted.
        """
        self._owner = owner
        self._threads = Threads()
        self._containers = await self._threads.call(self._prepare, state_dir)
        self._keeper = Keeper(self._containers, self._threads)
        await self._keeper.adopt()

    def _prepare(self, state_dir: str) -> Containers:
        root = Path(state_dir).absolute()
        if self._kill != "process-tree":
            digest = hashlib.blake2b(os.fsencode(root), digest_size=6).hexdigest()
            self._tree = CgroupTree.open(f"agent-{digest}")
        if self._tree.kill_method:
            self.kill_method = "cgroup"
        elif self._kill == "cgroup":
            raise PluginDisabled(
                "the agent may not make cgroups in which containers can be killed",
                plugin="process",
                hint='Delegate a cgroup to the agent, or set kill = "auto" in [plugin.process].',
            )
        if self._pids_limit and not self._tree.bounds_pids:
            raise PluginDisabled(
                "the agent may not make cgroups in which processes can be bounded",
                plugin="process",
                hint="Delegate a cgroup with the pids controller to the agent, or leave out "
                "pids-limit in [plugin.process].",
            )
        return Containers(root / "containers", self._tree, self._most_pids)

    @property
    def _most_pids(self) -> int:
        """The most processes of one container; 0 where nothing bounds them."""
        if not self._tree.bounds_pids:
            return 0
        return PIDS_LIMIT if self._pids_limit is None else self._pids_limit

    async def shut_down(self) -> None:
        """Forget the containers; they and their shims go on."""
        if self._keeper is not None:
            await self._keeper.close()
        if self._threads is not None:
            await self._threads.call(self._tree.close)
            self._threads.close()
        self._keeper = self._containers = self._threads = None

    def capabilities(self) -> Mapping[str, Support]:
        """Say what this backend can do on this node; all but what cgroups do it cannot."""
        if self._keeper is None:
            return self.info.capabilities
        can = {"kill.whole": self.kill_method == "cgroup", "limits.pids": self._tree.bounds_pids}
        known = {name: Support.YES if yes else Support.NO for name, yes in can.items()}
        return {**self.info.capabilities, **known}

    def facts(self) -> Mapping[str, str]:
        """Say in words what an operator should know of this backend on this node."""
        return facts(self.kill_method, self._tree.kill_method, self._most_pids)

    @property
    def _at_work(self) -> tuple[Containers, Keeper, Threads]:
        if self._containers is None or self._keeper is None or self._threads is None:
            raise RuntimeError("the process backend is used outside start_up and shut_down")
        return self._containers, self._keeper, self._threads

    # -- images ------------------------------------------------------------------------------

    def paths(self, host: Paths) -> Paths:
        """Return the host's paths: a process sees no others."""
        return host

    async def images(self) -> Sequence[Image]:
        """List the interpreters of this host."""
        return await self._at_work[2].call(self._images.images)

    async def inspect_image(self, name: str) -> Image:
        """Look one interpreter up."""
        return await self._at_work[2].call(self._images.find, name)

    # -- containers --------------------------------------------------------------------------

    async def create(self, spec: ContainerSpec) -> None:
        """Make the container's directory and cgroups.

        Raises:
            ImageNotFound: when there is no such interpreter.
            InvalidSpec: when the spec is malformed.
            Unsupported: when the edits need more than a process can have; nothing was taken.
            Conflict: when a container of this name was created from another spec.
        """
        containers, _, threads = self._at_work
        await threads.call(self._images.find, spec.image)
        await threads.call(containers.create, spec)

    async def start(self, name: str) -> None:
        """Start the main process; returns once it runs.

        Raises:
            NotFound: when there is no such container.
            WrongState: when it has already ended.
            KernelFailed: when it could not be started, with the step and the reason.
        """
        await self._at_work[1].start(name)

    async def stop(self, name: str, grace: float) -> None:
        """Send SIGTERM to the main process, and kill all after the grace."""
        await self._at_work[1].end(name, grace)

    async def kill(self, name: str) -> None:
        """Kill all processes of the container."""
        await self._at_work[1].end(name, 0)

    async def remove(self, name: str) -> None:
        """Remove the container, its cgroups, log and record."""
        await self._at_work[1].remove(name)

    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        """List the owner's containers; one whose files cannot be made out is unknown."""
        containers, _, threads = self._at_work
        found = await threads.call(self._list, containers)
        return [status for status in found if status.owner in {owner, ""} and _exists(status)]

    def _list(self, containers: Containers) -> Sequence[ContainerStatus]:
        found = [_status(directory) for directory in containers.all()]
        strays = containers.strays.all()
        return [*found, *(stray_status(self._owner, n, left) for n, left in strays.items())]

    async def inspect(self, name: str) -> ContainerStatus:
        """Observe one container; processes without its directory are it, too."""
        containers, _, threads = self._at_work
        return await threads.call(self._inspect, containers, name)

    def _inspect(self, containers: Containers, name: str) -> ContainerStatus:
        status = _status(containers.at(name))
        if status.presence is not Presence.ABSENT:
            return status
        left = containers.strays.of(name)
        return stray_status(self._owner, name, left) if left else status

    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        """Yield what happens; ends when the backend shuts down."""
        async for event in self._at_work[1].journal.read(cursor):
            yield event

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        """Yield the output that was kept; a mark tells how much of it was dropped."""
        containers, keeper, threads = self._at_work
        seen = await keeper.look(name)
        if seen is None:
            raise NotFound(f"there is no container {name!r}")
        reader = LogReader(containers.at(name), seen.stored.log_limit)
        while True:
            ended = seen is None or seen.state is ContainerState.EXITED
            end = await threads.call(reader.end)
            while (chunk := await threads.call(reader.read, end)) is not None:
                yield chunk
            if ended or not follow:
                return
            await asyncio.sleep(_FOLLOW_PERIOD)
            seen = await keeper.look(name)

    async def handles(self, name: str) -> Handles:
        """Name the main process, the cgroups and all processes of a running container."""
        return await self._at_work[2].call(_handles, self._at_work[0].at(name))

    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        """Compare environment, cores, limits and files of the main process with the edits."""
        pid = (await self.handles(name)).init_pid
        containers, _, threads = self._at_work
        return await threads.call(
            lambda: [*differences(pid, edits), *containers.differences(name, edits)]
        )


def _exists(status: ContainerStatus) -> bool:
    return status.presence is not Presence.ABSENT


def _status(directory: ContainerDirectory) -> ContainerStatus:
    """Observe a container as the contract has it."""
    began = time.monotonic()
    name = directory.name
    try:
        seen = observe(directory)
    except FileNotFoundError:
        presence = Presence.UNKNOWN if directory.exists() else Presence.ABSENT
        reason = "its spec.json is gone" if directory.exists() else ""
        ended = time.monotonic()
        return ContainerStatus(name, presence=presence, began=began, ended=ended, reason=reason)
    except ValueError as exc:
        ended, unknown = time.monotonic(), Presence.UNKNOWN
        return ContainerStatus(name, presence=unknown, began=began, ended=ended, reason=str(exc))
    return ContainerStatus(
        name=name,
        owner=seen.stored.owner,
        state=seen.state,
        exit=seen.exit,
        record=seen.stored.record,
        began=began,
        ended=time.monotonic(),
    )


def _handles(directory: ContainerDirectory) -> Handles:
    seen = _running(directory)
    pid, start = seen.identity.main if seen.identity else (0, 0)
    members = processes.group_members(seen.stored.kill_group) if seen.stored.kill_group else []
    if seen.identity is not None and not members:
        root = seen.identity.shim if seen.supervised else seen.identity.main
        members = [*processes.descendants(root[0])]
    pids = tuple(sorted({pid, *(member for member, _ in members)}))
    return Handles(pid, start, seen.stored.cgroups, pids)


def _running(directory: ContainerDirectory) -> Observation:
    seen = look(directory)
    if seen is None:
        raise NotFound(f"there is no container {directory.name!r}")
    if seen.state is not ContainerState.RUNNING:
        raise NotFound(f"container {directory.name!r} does not run, it is {seen.state}")
    return seen
