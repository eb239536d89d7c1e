"""The composition root: the one place where all the rooms meet."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from agent_core import clock
from agent_core.config.model import AgentConfig
from agent_core.config.pidfile import pid_file
from agent_core.contracts.backend import ContainerBackend, ContainerStatus
from agent_core.contracts.errors import InvalidConfig
from agent_core.contracts.info import Support
from agent_core.contracts.runner import KernelRunner
from agent_core.events.bus import EventBus
from agent_core.events.plugins import PluginEvents
from agent_core.host.plugin_host import PluginHost
from agent_core.host.worker_keeper import WorkerPolicy
from agent_core.kernels.adoption import adopt_all, adopt_later
from agent_core.kernels.asking import ask
from agent_core.kernels.code import CodeService
from agent_core.kernels.content import ContentService
from agent_core.kernels.cores import core_caution
from agent_core.kernels.devices import DeviceService
from agent_core.kernels.key_pairs import KeyPairs
from agent_core.kernels.logs import LogStore
from agent_core.kernels.owners import Owners
from agent_core.kernels.ports import PortPool, open_pool
from agent_core.kernels.ports_file import PortsFile
from agent_core.kernels.pulling import Pulls
from agent_core.kernels.reconciler import Reconciler
from agent_core.kernels.runner.bundle import RunnerBundle
from agent_core.kernels.service import KernelService
from agent_core.kernels.services import Services, Settings
from agent_core.kernels.tls.fronts import INSIDE, TlsFronts
from agent_core.kernels.turns import Turns
from agent_core.kernels.user import OWN
from agent_core.kernels.watching import Watching
from agent_core.ledger import BackupKeeper, Commit, Ledger, StateLock
from agent_core.node import NodeService
from agent_core.offers import BACKEND_KEYS, plugin_tables
from agent_core.reloading import Load, Reloader, settings_of
from agent_core.resources.allocator import Allocator
from agent_core.resources.placement import Strategy
from agent_core.server.addresses import TcpAddress
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.rpc import RpcServer
from agent_core.wire.keys import ensure_keys

log = structlog.get_logger(__name__)

FORGETTING = Commit("kernels-forgotten", "kernels that ended long ago are forgotten")

_LOOPBACK = "127.0.0.1"
_RETENTION_INTERVAL = 3600.0
_PROBE_INTERVAL = 5.0
_GC_THRESHOLD = (5000, 20, 20)


class Agent:
    """One agent: owns every service, starts them in order and stops them in reverse."""

    def __init__(
        self,
        config: AgentConfig,
        warnings: Sequence[str] = (),
        *,
        tcp_is_chosen: bool = False,
        load: Load | None = None,
    ) -> None:
        self._config = config
        self._load = load
        self._reloader: Reloader | None = None
        self._warnings = tuple(warnings)
        self._tcp_is_chosen = tcp_is_chosen
        self._stack = AsyncExitStack()
        self._periodic: list[asyncio.Task[None]] = []
        self._plugin_events = PluginEvents()

    async def start(self) -> None:
        """Take the state directory, load the plugins, adopt what runs, and serve the RPC.

        Raises:
            AgentError: when any of that fails; everything taken so far was given back.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Stop serving and leave every running kernel as it is."""
        await self._stack.aclose()

    def reload(self) -> None:
        """Begin to take a changed configuration over; what comes of it is logged."""
        if self._reloader is not None:
            task = asyncio.ensure_future(self._reloader.quietly())
            self._periodic.append(task)
            task.add_done_callback(self._periodic.remove)

    async def _start(self) -> None:
        paths = self._config.paths
        run_root = paths.run / "k"
        for directory in (paths.state, paths.run, run_root):
            _private_directory(directory)
        self._stack.enter_context(StateLock(paths.state))
        self._stack.enter_context(pid_file(self._config.agent.pid_file))
        ledger = Ledger(paths.state / "ledger.db")
        ledger.open()
        self._stack.callback(ledger.close)
        self._backups = BackupKeeper(ledger)
        self._stack.push_async_callback(self._backups.back_up_changes)
        host = await self._load_plugins()
        self._services = await self._compose(host, ledger, run_root)
        owners = Owners(self._services)
        self._stack.push_async_callback(self._services.pulls.close)
        self._stack.push_async_callback(self._services.bundle.close)
        self._stack.push_async_callback(owners.stop)
        faults = await adopt_all(self._services, owners)
        notices = [f"{notice.message} ({notice.hint})" for notice in host.notices]
        warnings = [*self._warnings, *notices, *self._strangers(host), *faults]
        kernels = KernelService(self._services, owners)
        reloader = Reloader(self._config, self._load, host, self._services)
        reconciler = Reconciler(self._services, owners)
        node = NodeService(
            reloader,
            host,
            self._services,
            kernels,
            reconciler,
            self._backups,
            warnings,
        )
        self._stack.push_async_callback(self._end_periodic)
        self._begin_periodic(owners, Watching(self._services, owners, reconciler), warnings)
        await self._serve(node, kernels)
        self._reloader = reloader
        # The first to go at a stop: code that runs must not be interrupted since its caller goes.
        self._stack.callback(owners.detach)

    async def _load_plugins(self) -> PluginHost:
        config = self._config
        tables = plugin_tables(config)
        self._tables = tables
        host = PluginHost(
            config.selection,
            tables,
            deadline=config.plugins.deadline,
            workers=WorkerPolicy(memory=config.plugins.worker_memory),
        )
        host.observe(self._plugin_events.changed)
        host.load()
        self._stack.push_async_callback(host.close_all)
        await host.open_all(config.plugins.deadline)
        return host

    def _strangers(self, host: PluginHost) -> list[str]:
        """Tables of the configuration that nobody reads."""
        records = host.records()
        infos = [record.info for record in records if record.info is not None]
        said = [*self._tables.unread({record.name for record in records}, infos)]
        said += self._tables.unheard("backend", infos, BACKEND_KEYS)
        for warning in said:
            log.warning(warning)
        return said

    async def _compose(self, host: PluginHost, ledger: Ledger, run_root: Path) -> Services:
        config = self._config
        state_dir = str(config.paths.state / "backend")
        backend: ContainerBackend = (await host.start_backend(config.agent.id, state_dir)).instance
        allocator = Allocator(
            Strategy(config.resource.allocation_strategy), config.resource.device_mask
        )
        devices = DeviceService(host.devices(), allocator)
        host.listen(devices.changed)
        await devices.refresh()
        settings = settings_of(config, run_root, self._scratch_size(host))
        self._settle_user(settings, backend)
        if settings.cores is not None and (caution := core_caution()):
            self._warnings += (caution,)
            log.warning(caution)
        runner: KernelRunner | None = None if backend.brings_runner else host.runner.instance
        bus = EventBus(ledger, log_events=config.debug.log_events)
        logs = LogStore(config.paths.state / "kernel-logs")
        tls = TlsFronts(idle=config.container.service_tls_idle_timeout)
        await tls.load(config.container.service_tls_cert, config.container.service_tls_key)
        self._stack.push_async_callback(tls.close)
        pool = await self._port_pool(tls)
        return Services(
            settings,
            ledger,
            bus,
            allocator,
            devices,
            backend,
            host.scratch,
            runner,
            logs,
            pool,
            Pulls(backend, lambda: settings.pull_timeout),
            KeyPairs(config.paths.state / "session-keys"),
            RunnerBundle(runner if _hides_the_host(backend) else None, config.paths.bundles),
            turns=Turns(config.agent.kernel_creation_concurrency),
            stray_workers=host.stray_workers,
            tls=tls,
            ports_file=self._ports_file(settings),
        )

    def _settle_user(self, settings: Settings, backend: ContainerBackend) -> None:
        """Run kernels as the configured user, where the backend and the agent can do that."""
        if not settings.kernel_user.is_another:
            return
        if _hides_the_host(backend):
            settings.kernel_user.check()
            return
        settings.kernel_user = OWN
        why = f"backend {backend.info.name!r} runs kernels as the agent's own user"
        self._warnings += (f"[container] kernel-uid and kernel-gid have no effect: {why}",)
        log.warning(self._warnings[-1])

    def _ports_file(self, settings: Settings) -> PortsFile | None:
        """What writes down where services are reached, where somebody asked for that."""
        path = self._config.container.ports_file
        if path is None:
            return None
        file = PortsFile(path, settings.agent_id, lambda: settings.advertised_host)
        self._stack.push_async_callback(file.write)
        return file

    async def _port_pool(self, tls: TlsFronts) -> PortPool:
        """The ports that kernels publish theirs on, and a word where none can be had now."""
        container = self._config.container
        first, last = container.port_range
        host, cooldown = container.bind_host or _LOOPBACK, container.port_reuse_cooldown_sec
        inside = lambda: INSIDE if tls.enabled else None  # noqa: E731 - asked for each port
        pool = await open_pool(range(first, last + 1), host, cooldown, inside)
        tls.host = pool.host
        if why := pool.fault():
            self._warnings += (why,)
            log.warning(why)
        return pool

    def _scratch_size(self, host: PluginHost) -> int | None:
        """The configured size, where the scratch manager can limit one at all."""
        size = self._config.container.scratch_size
        if not size or host.scratch.info.supports("size-limit") is Support.YES:
            return size or None
        self._warnings += (
            f"[container] scratch-size has no effect: {host.scratch.record.label} has no limits",
        )
        log.warning(self._warnings[-1])
        return None

    async def _serve(self, node: NodeService, kernels: KernelService) -> None:
        content = ContentService(self._services, kernels)
        self._stack.push_async_callback(content.close)
        dispatcher = Dispatcher(node, kernels, CodeService(kernels), content)
        paths = self._config.paths
        server = RpcServer(dispatcher, unix=paths.rpc_socket, tcp=self._tcp_address())
        try:
            server.start()
        except InvalidConfig as exc:
            if self._tcp_is_chosen:
                raise
            # Nobody asked for TCP: a second agent on this node must not fail over the default port.
            log.warning("not listening on TCP", error=exc.message)
            server = RpcServer(dispatcher, unix=paths.rpc_socket)
            server.start()
        self._stack.push_async_callback(server.stop)
        node.addresses = server.addresses
        node.state = "ready"
        self._stack.callback(setattr, node, "state", "stopping")
        log.info("started handling RPC requests at " + ", ".join(server.addresses))

    def _tcp_address(self) -> TcpAddress | None:
        agent = self._config.agent
        address = agent.rpc_listen_addr
        if address is None:
            return None
        if agent.rpc_insecure:
            return TcpAddress(address.host, address.port, insecure=True)
        return TcpAddress(address.host, address.port, keys=ensure_keys(self._config.paths.keys))

    # ---- what goes on all the time ----

    def _begin_periodic(self, owners: Owners, watching: Watching, faults: list[str]) -> None:
        loop = asyncio.get_running_loop()
        for name, work in {
            "backend events": watching.follow(),
            "kernels": watching.look(),
            "strangers": watching.survey(),
            "bundle": self._services.bundle.prepare(self._containers),
            "devices": _each(
                self._config.resource.device_interval,
                self._services.devices.refresh,
                "devices",
                wait=True,
            ),
            "plugins": self._plugin_events.follow(self._services.ledger, self._services.bus),
            "returned devices": self._services.devices.follow(),
            "adoption": adopt_later(self._services, owners, faults),
            "ledger": _each(_PROBE_INTERVAL, self._services.ledger.probe, "ledger", wait=True),
            "backups": _each(
                self._config.agent.ledger_backup_interval,
                self._backups.back_up_changes,
                "backups",
                wait=True,
            ),
            "retention": _each(_RETENTION_INTERVAL, self._forget_once, "retention"),
        }.items():
            self._periodic.append(loop.create_task(work, name=name))
        if (ports_file := self._services.ports_file) is not None:
            self._periodic.append(loop.create_task(ports_file.follow(), name="ports file"))

    async def _containers(self) -> Sequence[ContainerStatus]:
        """All containers of this agent that the runtime has."""
        listing = self._services.backend.list(self._config.agent.id)
        return await ask(self._services, listing, "list")

    async def _end_periodic(self) -> None:
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*[*self._periodic], return_exceptions=True)

    async def _forget_once(self) -> None:
        before = clock.wall() - self._services.settings.retention
        forgotten = await self._services.ledger.write(
            FORGETTING, lambda tx: tx.forget_ended(before)
        )
        await self._services.logs.forget(forgotten)


async def serve(
    config: AgentConfig,
    warnings: Sequence[str] = (),
    *,
    tcp_is_chosen: bool = False,
    load: Load | None = None,
) -> None:
    """Run an agent until SIGINT or SIGTERM; running kernels are left running.

    SIGHUP reads the configuration again.

    Args:
        config: The checked configuration.
        warnings: What the operator should know, shown in the log and the status.
        tcp_is_chosen: Whether somebody set the TCP address, so that failing to bind it is an error.
        load: Reads the configuration again.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.set_debug(config.debug.asyncio)
    for warning in warnings:
        log.warning(warning)
    agent = Agent(config, warnings, tcp_is_chosen=tcp_is_chosen, load=load)
    loop.add_signal_handler(signal.SIGHUP, agent.reload)
    asked = asyncio.ensure_future(stopping.wait())
    try:
        # What a start makes stays: a collection among thousands of kernels finds nothing.
        gc.disable()
        started = await _started(agent, asked)
        # A create makes some thousand objects that are soon freed by themselves: looking for
        # cycles after every few hundred of them, as is usual, costs a tenth of its time.
        gc.set_threshold(*_GC_THRESHOLD)
        gc.enable()
        if started:
            await asked
        log.info("stopping; running kernels are left running")
    finally:
        gc.enable()
        asked.cancel()
        await agent.stop()


async def _started(agent: Agent, asked: asyncio.Future[Any]) -> bool:
    """Start the agent; False when it was asked to stop before it had."""
    starting = asyncio.ensure_future(agent.start())
    try:
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        starting.cancel()  # does nothing once it has started
        await asyncio.wait({starting})
    if starting.cancelled():
        return False
    starting.result()
    return True


async def _each(
    seconds: float, work: Callable[[], Awaitable[object]], what: str, *, wait: bool = False
) -> None:
    """Do something again and again; what fails is logged, and tried again in its turn."""
    if wait:
        await asyncio.sleep(seconds)
    while True:
        try:
            await work()
        except Exception:
            log.exception("failed; it is tried again", what=what, seconds=seconds)
        await asyncio.sleep(seconds)


def _private_directory(path: Path) -> None:
    """Make a directory that is ours alone; one that another user made beforehand is refused."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_stranger(path)
        if path.parent.parent.stat().st_mode & stat.S_IWOTH:
            _refuse_stranger(path.parent)  # anybody could have made it before us
        path.chmod(0o700)
    except OSError as exc:
        raise InvalidConfig(
            f"cannot make the directory {path}: {exc.strerror}",
            hint="Set [agent] var-base-path and ipc-base-path to directories that you can write.",
        ) from exc


def _refuse_stranger(path: Path) -> None:
    if path.stat().st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, f"{path} belongs to another user")


def _hides_the_host(backend: ContainerBackend) -> bool:
    """Say whether kernels see none of this host's files, so that their runner is given to them."""
    return backend.capabilities().get("isolation") is Support.YES
