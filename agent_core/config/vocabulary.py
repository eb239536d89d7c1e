"""Every key that may stand in a configuration but is not a field of the model.

Aliases are other spellings of a field; pending keys are known from the documents this agent
follows and have no effect yet. Both are accepted, and pending ones are announced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

KeyPath = tuple[str, ...]


class Alias(NamedTuple):
    """Another spelling of a key; ``deprecated`` ones are warned about."""

    key: str
    deprecated: bool = False


ALIASES: Final[Mapping[KeyPath, Alias]] = {
    ("agent", "mode"): Alias("backend"),
    ("agent", "allowed-compute-plugins"): Alias("allow-compute-plugins", deprecated=True),
    ("agent", "blocked-compute-plugins"): Alias("block-compute-plugins", deprecated=True),
    ("agent", "initial-resource-group-name"): Alias("scaling-group"),
    ("container", "kernel-host"): Alias("bind-host"),
    ("kernel-lifecycles", "init-timeout-sec"): Alias("init-timeout"),
}

PATH_KEYS: Final[frozenset[KeyPath]] = frozenset(
    {
        ("agent", "ipc-base-path"),
        ("agent", "var-base-path"),
        ("agent", "pid-file"),
        ("container", "scratch-root"),
        ("logging", "file", "path"),
    }
)
"""Keys whose relative values start at the configuration file, or at the working directory when
they come from the environment or the command line."""

SHORT_VARIABLES: Final[Mapping[str, KeyPath]] = {
    "BACKEND_AGENT_HOST_OVERRIDE": ("agent", "rpc-listen-addr", "host"),
    "BACKEND_AGENT_PORT": ("agent", "rpc-listen-addr", "port"),
    "BACKEND_PID_FILE": ("agent", "pid-file"),
    "BACKEND_SCRATCH_ROOT": ("container", "scratch-root"),
    "BACKEND_NAMESPACE": ("etcd", "namespace"),
    "BACKEND_ETCD_ADDR": ("etcd", "addr"),
    "BACKEND_ETCD_USER": ("etcd", "user"),
    "BACKEND_ETCD_PASSWORD": ("etcd", "password"),
    "BACKEND_CONTAINER_PORT_RANGE": ("container", "port-range"),
    "BACKEND_BIND_HOST_OVERRIDE": ("container", "bind-host"),
    "BACKEND_SANDBOX_TYPE": ("container", "sandbox-type"),
}
"""Environment variables with names of their own."""

ANY: Final = None
"""Marks a pending table whose contents are not checked."""


def _keys(words: str) -> frozenset[str]:
    return frozenset(words.split())


PENDING: Final[Mapping[KeyPath, frozenset[str] | None]] = {
    ("agent",): _keys(
        "internal-addr service-addr announce-internal-addr announce-addr ssl-enabled ssl-cert"
        " ssl-key advertised-rpc-addr rpc-auth-manager-public-key rpc-auth-agent-keypair mount-path"
        " cohabiting-storage-proxy public-host region instance-type event-loop"
        " skip-manager-detection aiomonitor-termui-port aiomonitor-webui-port"
        " metadata-server-bind-host metadata-server-port allow-network-plugins"
        " block-network-plugins image-commit-path abuse-report-path docker-mode"
        " mount-path-uid-gid agent-sock-port scaling-group-type"
        " force-terminate-abusing-containers kernel-creation-concurrency"
    ),
    ("agent", "utilization-metric"): ANY,
    ("container",): _keys(
        "krunner-volumes kernel-uid kernel-gid stats-type sandbox-type jail-args"
        " scratch-nfs-address scratch-nfs-options alternative-bridge swarm-enabled"
    ),
    ("resource",): _keys(
        "reserved-disk allocation-mode memory-align-size allocation-order affinity-policy"
    ),
    ("resource", "allocations"): ANY,
    ("kernel-lifecycles",): _keys("init-polling-attempt init-polling-timeout-sec"),
    ("debug",): _keys(
        "asyncio kernel-runner enhanced-aiomonitor-task-info skip-container-deletion log-stats"
        " log-kernel-config log-alloc-map log-heartbeats heartbeat-interval log-docker-events"
    ),
    ("debug", "coredump"): _keys("enabled path backup-count size-limit"),
    ("logging", "logstash"): ANY,
    ("logging", "graylog"): ANY,
    ("etcd",): _keys("namespace addr user password"),
    ("redis",): ANY,
    ("watcher",): _keys(
        "service-addr ssl-enabled ssl-cert ssl-key target-service soft-reset-available"
    ),
    ("container-logs",): _keys("driver max-length chunk-size"),
    ("api",): _keys("pull-timeout commit-timeout push-timeout"),
    ("pyroscope",): _keys("enabled app-name server-addr sample-rate"),
    ("otel",): _keys("enabled log-level endpoint max-queue-size max-export-batch-size"),
    ("service-discovery",): _keys("type instance-id service-group endpoints"),
    ("agents",): ANY,
}
"""Known keys without effect yet: for each table, its keys, or ANY."""
