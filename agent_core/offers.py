"""What the agent says of itself to plugins, beside their own sections of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent_core.config.model import AgentConfig
from agent_core.host.tables import PluginTables

BACKEND_KEYS: Final = {
    "network": "[container] alternative-bridge",
    "swarm-enabled": "[container] swarm-enabled",
    "log-driver": "[container-logs] driver",
}
"""What backends are told of the configuration, and where that stands in it."""


def plugin_tables(config: AgentConfig) -> PluginTables:
    """Give each plugin its own section, and say what of the agent's own concerns it."""
    tables = PluginTables(config.plugin, sections=config.sections)
    resource = config.resource
    tables.offer(
        "device:cpu",
        reserved=resource.reserved_cpu,
        shared=resource.shared_cpu,
        overcommit=resource.cpu_overcommit,
    )
    tables.offer("device:mem", reserved=resource.reserved_mem, overcommit=resource.mem_overcommit)
    root, state = str(config.container.scratch_root), str(config.paths.state / "scratch")
    tables.offer("backend", **dict(_of_the_backend(config)))
    tables.offer("scratch", root=root, owner=config.agent.id, **{"state-dir": state})
    return tables


def _of_the_backend(config: AgentConfig) -> Iterator[tuple[str, Any]]:
    """Say to the backend what of the configuration only some of them can do, where it is set."""
    if config.container.alternative_bridge is not None:
        yield "network", config.container.alternative_bridge
    if config.container.swarm_enabled:
        yield "swarm-enabled", True
    if config.container_logs.driver is not None:
        yield "log-driver", config.container_logs.driver
