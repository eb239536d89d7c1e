"""Keys that are known and take effect with a later feature: their types, defaults and features.

Imported only when such a key is set: what has no effect must cost a start nothing. When a feature
lands, its keys move from here into the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from agent_core.config.model import (
    Address,
    Count,
    Duration,
    HostName,
    Level,
    Location,
    OptionalItems,
    Section,
    Size,
    Text,
)
from agent_core.config.units import split_address
from agent_core.config.vocabulary import KeyPath


def _addresses(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _address(value: object) -> object:
    return (split_address(value) or value) if isinstance(value, str) else value


At = Annotated[
    Address,
    BeforeValidator(_address),
    Field(description='"host:port", or { host = "...", port = ... }'),
]
Ats = Annotated[
    tuple[At, ...],
    BeforeValidator(_addresses),
    Field(description='"host:port", { host = "...", port = ... }, or a list of them'),
]
Port = Annotated[int, Field(ge=0, le=65535, description="a TCP port, 0 to 65535")]
Texts = Annotated[tuple[str, ...], Field(description="a list of texts")]


def _at(host: str, port: int) -> Address:
    return Address.model_construct(host=host, port=port)


class MetricSection(Section):
    """How often one scope is measured."""

    enable: bool = True
    interval: Duration = 30.0


class MetricsSection(Section):
    """How often things are measured, by scope: ``[agent.utilization-metric]``."""

    node: MetricSection = MetricSection.model_construct()
    container: MetricSection = MetricSection.model_construct()
    process: MetricSection = MetricSection.model_construct()


class LaterAgent(Section):
    """The agent itself: ``[agent]``."""

    internal_addr: At = _at("0.0.0.0", 6003)  # noqa: S104 - the default of the documents
    announce_internal_addr: At = _at("host.docker.internal", 6003)
    ssl_enabled: bool = False
    ssl_cert: Location | None = None
    ssl_key: Location | None = None
    mount_path: Location | None = None
    mount_path_uid_gid: Text | None = None
    cohabiting_storage_proxy: bool = True
    skip_manager_detection: bool = False
    metadata_server_bind_host: HostName = "0.0.0.0"  # noqa: S104
    metadata_server_port: Port = 40128
    allow_network_plugins: OptionalItems = None
    block_network_plugins: OptionalItems = None
    abuse_report_path: Location | None = None
    force_terminate_abusing_containers: bool = False
    agent_sock_port: Port = 6007
    scaling_group_type: Annotated[
        Literal["compute", "storage"], Field(description="compute or storage")
    ] = "compute"
    utilization_metric: MetricsSection = MetricsSection.model_construct()


class LaterContainer(Section):
    """What a kernel is made of: ``[container]``."""

    stats_type: Annotated[str, Field(min_length=1, description="the name of a plugin")] = "docker"


class LaterResource(Section):
    """What of the node is kept from kernels: ``[resource]``."""

    reserved_disk: Size = 8 << 30


class LaterDebug(Section):
    """Aids for developers: ``[debug]``."""

    enhanced_aiomonitor_task_info: bool = False
    log_stats: bool = False
    log_heartbeats: bool = False
    heartbeat_interval: Duration = 20.0


class LogstashSection(Section):
    """Sending messages to Logstash: ``[logging.logstash]``."""

    endpoint: At = _at("127.0.0.1", 8001)
    protocol: Annotated[
        Literal["zmq.push", "zmq.pub", "tcp", "udp"], Field(description="zmq.push, zmq.pub or tcp")
    ] = "tcp"
    ssl_enabled: bool = True
    ssl_verify: bool = True


class GraylogSection(Section):
    """Sending messages to Graylog: ``[logging.graylog]``."""

    host: HostName = "127.0.0.1"
    port: Port = 8000
    level: Level = "INFO"
    localname: Text | None = None
    fqdn: Text | None = None
    ssl_verify: bool = False
    ca_certs: Location | None = None
    keyfile: Location | None = None
    certfile: Location | None = None


class LaterLogging(Section):
    """What is logged, and where: ``[logging]``."""

    logstash: LogstashSection = LogstashSection.model_construct()
    graylog: GraylogSection = GraylogSection.model_construct()


class EtcdSection(Section):
    """Where a cluster keeps its configuration: ``[etcd]``."""

    namespace: Text = "local"
    addr: Ats = (_at("127.0.0.1", 2379),)
    user: Text = ""
    password: Text = ""


class RedisSection(Section):
    """Where a cluster exchanges its events: ``[redis]``."""

    addr: At = _at("127.0.0.1", 6379)
    sentinel: Text | None = None
    service_name: Text | None = None
    password: Text = ""


class WatcherSection(Section):
    """The HTTP service that controls the agent: ``[watcher]``."""

    service_addr: At = _at("0.0.0.0", 6009)  # noqa: S104
    ssl_enabled: bool = False
    ssl_cert: Location | None = None
    ssl_key: Location | None = None
    target_service: Text = "backendai-agent.service"
    soft_reset_available: bool = False


class PyroscopeSection(Section):
    """Profiling continuously: ``[pyroscope]``."""

    enabled: bool = False
    app_name: Text | None = None
    server_addr: Text | None = None
    sample_rate: Count | None = None


class OtelSection(Section):
    """Sending logs and traces by OpenTelemetry: ``[otel]``."""

    enabled: bool = False
    log_level: Level = "INFO"
    endpoint: Text = "http://127.0.0.1:4317"
    max_queue_size: Count = 65536
    max_export_batch_size: Count = 4096


class DiscoverySection(Section):
    """Announcing the agent's services: ``[service-discovery]``."""

    type: Annotated[Literal["redis", "etcd"], Field(description="redis or etcd")] = "redis"
    instance_id: Text | None = None
    service_group: Text | None = None
    endpoints: Annotated[
        tuple[dict[str, str | int], ...], Field(description="a list of tables")
    ] = ()


class PendingConfig(Section):
    """Every key that takes effect with a later feature."""

    agent: LaterAgent = LaterAgent.model_construct()
    container: LaterContainer = LaterContainer.model_construct()
    resource: LaterResource = LaterResource.model_construct()
    debug: LaterDebug = LaterDebug.model_construct()
    logging: LaterLogging = LaterLogging.model_construct()
    etcd: EtcdSection = EtcdSection.model_construct()
    redis: RedisSection = RedisSection.model_construct()
    watcher: WatcherSection = WatcherSection.model_construct()
    pyroscope: PyroscopeSection = PyroscopeSection.model_construct()
    otel: OtelSection = OtelSection.model_construct()
    service_discovery: DiscoverySection = DiscoverySection.model_construct()


ABUSE: Final = "reports of abuse"
ASKING: Final = "services for kernels"
NETWORKS: Final = "network plugins"
CLUSTER: Final = "joining a cluster"
HTTP: Final = "the HTTP services"
STATISTICS: Final = "statistics"
STORAGE: Final = "storage"
TELEMETRY: Final = "telemetry"

_AGENT: Final[Mapping[str, str]] = {
    "internal-addr": HTTP,
    "announce-internal-addr": HTTP,
    "ssl-enabled": HTTP,
    "ssl-cert": HTTP,
    "ssl-key": HTTP,
    "metadata-server-bind-host": ASKING,
    "metadata-server-port": ASKING,
    "agent-sock-port": ASKING,
    "allow-network-plugins": NETWORKS,
    "block-network-plugins": NETWORKS,
    "abuse-report-path": ABUSE,
    "force-terminate-abusing-containers": ABUSE,
    "mount-path": STORAGE,
    "mount-path-uid-gid": STORAGE,
    "cohabiting-storage-proxy": STORAGE,
    "skip-manager-detection": CLUSTER,
    "scaling-group-type": CLUSTER,
    "utilization-metric": STATISTICS,
}

FEATURES: Final[Mapping[KeyPath, str]] = {
    **{("agent", key): feature for key, feature in _AGENT.items()},
    ("container", "stats-type"): STATISTICS,
    ("resource", "reserved-disk"): STORAGE,
    ("debug", "enhanced-aiomonitor-task-info"): HTTP,
    ("debug", "log-stats"): STATISTICS,
    ("debug", "log-heartbeats"): CLUSTER,
    ("debug", "heartbeat-interval"): CLUSTER,
    ("logging",): TELEMETRY,
    ("etcd",): CLUSTER,
    ("redis",): CLUSTER,
    ("watcher",): HTTP,
    ("pyroscope",): TELEMETRY,
    ("otel",): TELEMETRY,
    ("service-discovery",): CLUSTER,
}
"""With which feature keys take effect: of a key, or of the table that it stands in."""


def feature_of(path: KeyPath) -> str:
    """Say with which feature a key takes effect."""
    found = (FEATURES.get(path[:length]) for length in range(len(path), 0, -1))
    return next((feature for feature in found if feature), "a later feature")
