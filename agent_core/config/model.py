"""The configuration as one typed model: what every key means, its default and its bounds.

Keys are written in kebab-case. A description says what a value looks like; it is the hint of the
fault when it looks otherwise.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent_core.config.paths import (
    AGENT_ID,
    AgentPaths,
    agent_paths,
    default_agent_id,
    default_scratch_root,
)
from agent_core.config.selection import Selection
from agent_core.config.units import (
    read_duration,
    read_factor,
    read_port_range,
    read_size,
    split_address,
)


def kebab(name: str) -> str:
    """Spell a field's name as it stands in TOML."""
    return name.replace("_", "-")


SECRET = re.compile(r"password|passwd|secret|token|credential|api[-_]?key", re.IGNORECASE)


def masked(table: dict[str, Any]) -> dict[str, Any]:
    """Hide the values of keys whose name says that they are secret."""
    return {key: _masked_value(key, value) for key, value in table.items()}


def _masked_value(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return masked(value)
    return "***" if SECRET.search(key) and isinstance(value, str) and value else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _present(value: object) -> object:
    if value == "":
        raise ValueError("is empty")
    return value


Size = Annotated[
    int,
    BeforeValidator(read_size),
    Field(ge=0, description="a size in bytes, or with a binary suffix: 512M, 4G"),
]
Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    Field(gt=0, description="seconds, or with a unit: 500ms, 10s, 2m"),
]


def _limit(value: object) -> object:
    return None if value == "none" else read_duration(value)


Limit = Annotated[
    Annotated[float, Field(gt=0)] | None,
    BeforeValidator(_limit),
    Field(description='seconds, or with a unit: 10m, 2h; "none" for no limit'),
]
Pause = Annotated[
    float,
    BeforeValidator(read_duration),
    Field(ge=0, description="seconds, or with a unit: 30s, 2m; 0 for none"),
]
Factor = Annotated[
    str,
    BeforeValidator(read_factor),
    Field(description="a decimal of at least 1, such as 1.5"),
]
Name = Annotated[str, Field(min_length=1, max_length=128, description="the name of a plugin")]
_ITEMS = Field(description="a list of entry-point names, distribution names or module paths")
Items = Annotated[tuple[str, ...], _ITEMS]
OptionalItems = Annotated[tuple[str, ...] | None, _ITEMS]
Text = Annotated[str, Field(description="a text")]
Id = Annotated[int, Field(ge=-1, description="a numeric id; -1: the agent's own")]
Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Location = Annotated[Path, BeforeValidator(_present), Field(description="a path")]
Level = Annotated[
    Literal["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(_upper),
    Field(description="DEBUG, INFO, WARNING, ERROR or CRITICAL"),
]
LogFormat = Annotated[
    Literal["simple", "verbose", "json"], Field(description="simple, verbose or json")
]


def _in_order(ports: tuple[int, int]) -> tuple[int, int]:
    if ports[0] > ports[1]:
        raise ValueError(f"is reversed: {ports[0]} comes after {ports[1]}")
    return ports


_Port = Annotated[int, Field(ge=1, le=65535)]
PortRange = Annotated[
    tuple[_Port, _Port],
    BeforeValidator(read_port_range),
    AfterValidator(_in_order),
    Field(description='the first and the last port: [30000, 31000], or "30000-31000"'),
]
HostName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._:-]*$", description="an IP address or a host name")
]


class Section(BaseModel):
    """The root of all tables: frozen, closed, kebab-case outside and snake_case inside."""

    # Only the whole is ever validated: building a validator for each table as well would take
    # a tenth of the time in which an agent has to answer its first call.
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True, defer_build=True
    )


class Address(Section):
    """A TCP address: ``{ host = "127.0.0.1", port = 6011 }`` or ``"127.0.0.1:6011"``.

    Port 0 takes any free port.
    """

    host: Annotated[str, Field(min_length=1, description="an IP address or a host name")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535, description="a TCP port, 0 to 65535")] = 6011

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _address(value: object) -> object:
    if value in ("none", False):
        return None
    return (split_address(value) or value) if isinstance(value, str) else value


class SyncSection(Section):
    """Comparing the ledger with the world: ``[agent.sync-container-lifecycles]``."""

    enabled: bool = True
    interval: Duration = 10.0


Table = Annotated[
    dict[str, Any],
    Field(description="a table that the selected backend or another selected plugin reads"),
]
"""A table whose keys only a plugin knows: its own schema judges them."""


class AgentSection(Section):
    """The agent itself: ``[agent]``."""

    id: Annotated[
        str,
        Field(
            pattern=f"^{AGENT_ID.pattern}$",
            description="1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit",
        ),
    ] = Field(default_factory=default_agent_id)
    backend: Name = "process"
    rpc_listen_addr: Annotated[
        Address | None,
        BeforeValidator(_address),
        Field(description='"host:port", { host = "...", port = ... }, or "none" for no TCP at all'),
    ] = Address.model_construct()
    rpc_insecure: bool = False
    allow_compute_plugins: OptionalItems = None
    block_compute_plugins: Items = ()
    ipc_base_path: Location | None = None
    var_base_path: Location | None = None
    ledger_backup_interval: Duration = 600.0
    scaling_group: Annotated[str, Field(min_length=1)] = "default"
    region: Text = ""
    instance_type: Text = ""
    public_host: HostName = ""
    advertised_rpc_addr: Annotated[
        Address | None,
        BeforeValidator(_address),
        Field(description='"host:port", or { host = "...", port = ... }'),
    ] = None
    event_loop: Annotated[Literal["asyncio", "uvloop"], Field(description="asyncio or uvloop")] = (
        "asyncio"
    )
    kernel_creation_concurrency: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | None,
        Field(description="a whole number, 1 to 1024"),
    ] = None
    pid_file: Location | None = None
    image_commit_path: Location | None = None
    sync_container_lifecycles: SyncSection = SyncSection.model_construct()
    intrinsic: Table = {}
    resource: Table = {}
    delay: Table = {}
    image: Table = {}


class PluginsSection(Section):
    """Every kind of plugin: ``[plugins]``; the deadline bounds each call into one."""

    allow: OptionalItems = None
    block: Items = ()
    inline: Items = ()
    worker_memory: Size = 512 << 20
    deadline: Duration = 10.0


class ContainerSection(Section):
    """What a kernel is made of: ``[container]``; a scratch-size of 0 is without limit."""

    scratch_type: Name | None = None
    scratch_root: Location = Field(default_factory=default_scratch_root)
    scratch_size: Size = 0
    runner: Name | None = None
    stop_grace: Duration = 10.0
    bind_host: HostName = "127.0.0.1"
    advertised_host: HostName = ""
    port_range: PortRange = (30000, 31000)
    port_reuse_cooldown_sec: Pause = 60.0
    kernel_uid: Id = -1
    kernel_gid: Id = -1
    alternative_bridge: Annotated[str, Field(min_length=1, description="a network")] | None = None
    swarm_enabled: bool = False
    built_in_services: Annotated[
        tuple[Literal["sshd", "ttyd"], ...], Field(description="a list of sshd and ttyd")
    ] = ()
    ports_file: Location | None = None
    service_tls_cert: Location | None = None
    service_tls_key: Location | None = None
    service_tls_idle_timeout: Limit = 86400.0

    @property
    def reached_at(self) -> str:
        """Where callers reach published ports: what was set, or the address they are bound to."""
        bound = self.bind_host or "127.0.0.1"
        everywhere = bound in ("0.0.0.0", "::")  # noqa: S104 - told apart, not bound
        return self.advertised_host or (os.uname().nodename if everywhere else bound)


class ResourceSection(Section):
    """What of the node is kept from kernels, and how devices are chosen: ``[resource]``."""

    reserved_cpu: Annotated[int, Field(ge=0, description="a whole number of CPUs")] = 0
    reserved_mem: Size = 1 << 30
    shared_cpu: Annotated[int, Field(ge=0, description="a whole number of CPUs")] = 0
    cpu_overcommit: Factor = "1"
    mem_overcommit: Factor = "1"
    allocation_strategy: Annotated[
        Literal["fill", "evenly"], Field(description="fill or evenly")
    ] = "fill"
    device_interval: Duration = 30.0
    device_mask: Annotated[
        dict[str, tuple[str, ...]],
        Field(description="by plugin, a list of device ids or globs"),
    ] = {}


class ConsoleLogSection(Section):
    """Logging to the standard error: ``[logging.console]``; colours by default on a terminal."""

    colored: bool | None = None
    format: LogFormat = "simple"


class FileLogSection(Section):
    """Logging to a rotated file: ``[logging.file]``; by default in the state directory."""

    path: Location | None = None
    filename: Annotated[str, Field(min_length=1, pattern=r"^[^/]+$")] = "agent.log"
    backup_count: Annotated[int, Field(ge=0, le=1000)] = 10
    rotation_size: Size = 10 << 20
    format: LogFormat = "verbose"


class LoggingSection(Section):
    """What is logged, and where: ``[logging]``; ``pkg-ns`` sets the level of single loggers."""

    level: Level = "INFO"
    drivers: tuple[Literal["console", "file"], ...] = ("console",)
    console: ConsoleLogSection = ConsoleLogSection.model_construct()
    file: FileLogSection = FileLogSection.model_construct()
    pkg_ns: dict[str, Level] = {}


class CoredumpSection(Section):
    """Core files of kernels that crash: ``[debug.coredump]``; by default in the state directory."""

    enabled: bool = False
    path: Location | None = None
    backup_count: Annotated[int, Field(ge=0, le=1000)] = 10
    size_limit: Size = 64 << 20


class DebugSection(Section):
    """Aids for developers: ``[debug]``."""

    enabled: bool = False
    asyncio: bool = False
    kernel_runner: bool = False
    log_events: bool = False
    log_docker_events: bool = False
    log_kernel_config: bool = False
    log_alloc_map: bool = False
    skip_container_deletion: bool = False
    coredump: CoredumpSection = CoredumpSection.model_construct()


class ContainerLogsSection(Section):
    """What kernels print: ``[container-logs]``."""

    max_length: Size = 10 << 20
    driver: Annotated[
        Literal["local", "json-file"] | None, Field(description="local or json-file")
    ] = None


class ApiSection(Section):
    """How long calls about images may take: ``[api]``."""

    pull_timeout: Limit = 7200.0
    commit_timeout: Limit = 600.0
    push_timeout: Limit = None


class KernelLifecyclesSection(Section):
    """A kernel's life, and what is left of one: ``[kernel-lifecycles]``."""

    init_timeout: Duration = 60.0
    stranger_policy: Annotated[
        Literal["report", "remove"], Field(description="report or remove")
    ] = "report"
    stranger_grace: Duration = 300.0


class AgentConfig(Section):
    """The whole configuration, every key with its default."""

    agent: AgentSection = Field(default_factory=AgentSection.model_construct)
    plugins: PluginsSection = PluginsSection.model_construct()
    container: ContainerSection = ContainerSection.model_construct()
    resource: ResourceSection = ResourceSection.model_construct()
    logging: LoggingSection = LoggingSection.model_construct()
    debug: DebugSection = DebugSection.model_construct()
    kernel_lifecycles: KernelLifecyclesSection = KernelLifecyclesSection.model_construct()
    container_logs: ContainerLogsSection = ContainerLogsSection.model_construct()
    api: ApiSection = ApiSection.model_construct()
    kernel: Table = {}
    kernel_creation_ctx: Table = {}
    plugin: dict[str, dict[str, Any]] = {}

    @cached_property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The tables outside of ``[plugin]`` that only plugins read, by dotted name, if filled."""
        agent = self.agent
        tables = {
            "agent.intrinsic": agent.intrinsic,
            "agent.resource": agent.resource,
            "agent.delay": agent.delay,
            "agent.image": agent.image,
            "kernel": self.kernel,
            "kernel-creation-ctx": self.kernel_creation_ctx,
        }
        return {name: table for name, table in tables.items() if table}

    @cached_property
    def paths(self) -> AgentPaths:
        """The directories of this agent."""
        agent = self.agent
        return agent_paths(agent.id, var_base=agent.var_base_path, ipc_base=agent.ipc_base_path)

    @cached_property
    def selection(self) -> Selection:
        """The part of the configuration that the plugin host reads."""
        agent, plugins = self.agent, self.plugins
        return Selection(
            backend=agent.backend,
            scratch=self.container.scratch_type,
            runner=self.container.runner,
            allow_devices=agent.allow_compute_plugins,
            block_devices=agent.block_compute_plugins,
            allow=plugins.allow,
            block=plugins.block,
            inline=plugins.inline,
        )

    def plugin_table(self, name: str) -> dict[str, Any]:
        """Return the free table ``[plugin.<name>]``, empty when there is none."""
        return self.plugin.get(name, {})

    def rendered(self) -> dict[str, Any]:
        """Return the whole configuration as plain data with kebab-case keys, secrets masked."""
        return masked(self.model_dump(mode="json", by_alias=True))
