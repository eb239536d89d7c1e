"""Taking a changed configuration over while kernels run: at SIGHUP, and by `config reload`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from agent_core import logs
from agent_core.config.loader import Loaded
from agent_core.config.model import AgentConfig
from agent_core.config.reloading import compare, taken_over
from agent_core.contracts.errors import AgentError, Unsupported
from agent_core.host.plugin_host import PluginHost
from agent_core.kernels.cores import Cores
from agent_core.kernels.services import Services, Settings
from agent_core.kernels.user import User
from agent_core.wire.models import Condition, Reloaded

log = structlog.get_logger(__name__)

Load = Callable[[], Loaded]
"""Reads the configuration again, from the same file, environment and command line."""


class Reloader:
    """Holds the configuration in effect, and takes over what of a new one can be.

    A configuration with a fault changes nothing.

    Attributes:
        config: The configuration in effect.
        warnings: What the last load said, for the status.
    """

    def __init__(
        self,
        config: AgentConfig,
        load: Load | None,
        host: PluginHost,
        services: Services,
    ) -> None:
        self.config = config
        self._load = load
        self._host = host
        self._services = services
        self._restart: tuple[str, ...] = ()
        self._failure = ""
        self._turn = asyncio.Lock()

    def conditions(self) -> list[Condition]:
        """Say what of the file is not in effect."""
        found = []
        if self._restart:
            keys = ", ".join(self._restart)
            words = f"changed in the configuration, and in effect after a restart: {keys}"
            found.append(Condition(code="restart-needed", message=words))
        if self._failure:
            words = f"the configuration was not reloaded: {self._failure}"
            found.append(Condition(code="reload-failed", message=words))
        return found

    async def reload(self) -> Reloaded:
        """Read the configuration again, and say what was taken over and what needs a restart.

        Raises:
            InvalidConfig: when it has a fault; nothing has changed.
            Unsupported: when this agent was not told where its configuration comes from.
        """
        if self._load is None:
            raise Unsupported("this agent has no configuration to read again")
        async with self._turn:
            try:
                loaded = await asyncio.to_thread(self._load)
                applied, restart = await self._take_over(loaded.config)
            except AgentError as exc:
                self._failure = exc.message
                raise
        self._failure, self._restart = "", restart
        for warning in loaded.warnings:
            log.warning(warning)
        log.info("the configuration was reloaded", applied=applied, needs_restart=restart)
        return Reloaded(
            applied=list(applied), needs_restart=list(restart), warnings=list(loaded.warnings)
        )

    async def quietly(self) -> None:
        """Reload, and leave what goes wrong in the log and in the status."""
        try:
            await self.reload()
        except AgentError as exc:
            log.error("the configuration was not reloaded", error=exc.message)  # noqa: TRY400
        except Exception:
            log.exception("the configuration was not reloaded")

    async def _take_over(self, new: AgentConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
        changes = compare(self.config, new)
        self._host.check(new.plugin, new.sections)
        before, config = self.config, taken_over(self.config, new)
        # First what can fail: the log file, and the certificate.
        configure_logs(config)
        services = self._services
        # Also when no key has changed: the files may have, as certificates are renewed.
        container = config.container
        await services.tls.load(container.service_tls_cert, container.service_tls_key)
        services.tls.idle = container.service_tls_idle_timeout
        asyncio.get_running_loop().set_debug(config.debug.asyncio)
        services.bus.log_events = config.debug.log_events
        services.turns.allow(config.agent.kernel_creation_concurrency)
        services.settings.renew(renewed(services.settings, config))
        if services.ports_file is not None:
            services.ports_file.touch()
        self.config = config
        if config.resource.device_mask != before.resource.device_mask:
            services.allocator.mask(config.resource.device_mask)
            await services.devices.refresh()
        told = await self._host.reconfigure(new.plugin, new.sections)
        taken = {name for name, applied in told.items() if applied}
        own = {**before.plugin, **{name: new.plugin_table(name) for name in taken}}
        self.config = config.model_copy(update={"plugin": own})
        applied = (*changes.live, *(f"plugin.{name}" for name in sorted(taken)))
        waiting = (f"plugin.{name}" for name in sorted(told.keys() - taken))
        return applied, (*changes.restart, *waiting)


def configure_logs(config: AgentConfig) -> None:
    """Set logging up as the configuration says."""
    directory = config.paths.state / "logs"
    logs.configure(config.logging, directory=directory, debug=config.debug.enabled)


def settings_of(config: AgentConfig, run_root: Path, scratch_size: int | None) -> Settings:
    """Write down what the kernels' room needs of the configuration."""
    looks = config.agent.sync_container_lifecycles
    settings = Settings(
        agent_id=config.agent.id,
        run_root=run_root,
        scratch_size=scratch_size,
        look_interval=looks.interval if looks.enabled else None,
        commit_path=config.agent.image_commit_path or config.paths.state / "commits",
        kernel_user=User.of(config.container.kernel_uid, config.container.kernel_gid),
    )
    return renewed(settings, config)


def cores_of(config: AgentConfig) -> Cores | None:
    """Say what is done with core files; None where nobody asked for them."""
    dump = config.debug.coredump
    path = dump.path or config.paths.state / "coredumps"
    return Cores(path, dump.backup_count, dump.size_limit) if dump.enabled else None


def renewed(settings: Settings, config: AgentConfig) -> Settings:
    """Put what is live of a configuration into the settings of the kernels' room."""
    lives, api, debug = config.kernel_lifecycles, config.api, config.debug
    return replace(
        settings,
        stop_grace=config.container.stop_grace,
        init_timeout=lives.init_timeout,
        stranger_policy=lives.stranger_policy,
        stranger_grace=lives.stranger_grace,
        advertised_host=config.container.reached_at,
        log_limit=config.container_logs.max_length,
        pull_timeout=api.pull_timeout,
        commit_timeout=api.commit_timeout,
        push_timeout=api.push_timeout,
        cores=cores_of(config),
        debug_runners=debug.kernel_runner,
        log_kernel_config=debug.log_kernel_config,
        log_alloc_map=debug.log_alloc_map,
        log_backend_events=debug.log_docker_events,
        keep_ended=debug.skip_container_deletion,
        built_in_services=config.container.built_in_services,
    )
