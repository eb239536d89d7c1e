"""Other spellings of keys, paths among them, and the variables that have names of their own."""

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
    ("agent", "service-addr"): Alias("internal-addr"),
    ("agent", "announce-addr"): Alias("announce-internal-addr"),
    ("container", "kernel-host"): Alias("bind-host"),
    ("kernel-lifecycles", "init-timeout-sec"): Alias("init-timeout"),
}

PATH_KEYS: Final[frozenset[KeyPath]] = frozenset(
    {
        ("agent", "ipc-base-path"),
        ("agent", "var-base-path"),
        ("agent", "pid-file"),
        ("container", "scratch-root"),
        ("container", "ports-file"),
        ("container", "service-tls-cert"),
        ("container", "service-tls-key"),
        ("logging", "file", "path"),
        ("debug", "coredump", "path"),
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

HANDED: Final[frozenset[KeyPath]] = frozenset(
    {
        ("agent", "intrinsic"),
        ("agent", "resource"),
        ("agent", "delay"),
        ("agent", "image"),
        ("kernel",),
        ("kernel-creation-ctx",),
        ("plugin",),
    }
)
"""Tables whose keys only plugins know."""
