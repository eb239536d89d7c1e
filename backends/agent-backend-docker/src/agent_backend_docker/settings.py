"""The configuration of the backend, read and checked beyond what its schema can say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_backend_docker.declaration import CDI_SPEC_DIRS, PIDS_LIMIT, SOCKETS
from agent_core.contracts.errors import InvalidConfig, bullet_list

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How containers are made; the schema of the plugin says what each value means."""

    socket: str = SOCKETS[0]
    deadline: float = 30.0
    slow_deadline: float = 120.0
    concurrent_starts: int = 6
    concurrent_removals: int = 8
    pids_limit: int = PIDS_LIMIT
    network: str = "bridge"
    init: bool = False
    capabilities: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[str, ...] = CDI_SPEC_DIRS
    no_new_privileges: bool = True
    seccomp: Table | None = None
    runtime: str = ""
    cgroup_parent: str = ""
    log_driver: str = "local"
    stall: float = 60.0
    swarm_enabled: bool = False
    block_io: Mapping[str, Table] = field(default_factory=dict)
    registries: Mapping[str, Table] = field(default_factory=dict, repr=False)


def read_settings(config: Table) -> Settings:
    """Read the configuration.

    Raises:
        InvalidConfig: with every fault that the schema could not name.
    """
    faults: list[str] = []
    seccomp = _profile(config, faults)
    faults += [
        f"[plugin.docker.registries.{name!r}] needs both username and password"
        for name, entry in config.get("registries", {}).items()
        if len(entry) == 1
    ]
    faults += [
        f"[plugin.docker.block-io] {device!r} is not the path of a device"
        for device in config.get("block-io", {})
        if not Path(device).is_absolute()
    ]
    if faults:
        raise InvalidConfig(bullet_list(faults), details={"faults": faults})
    direct: dict[str, Any] = {
        name: tuple(config[key]) if isinstance(config[key], list) else config[key]
        for name in Settings.__dataclass_fields__
        if (key := name.replace("_", "-")) in config
    }
    return Settings(
        **{
            **direct,
            "socket": _socket(str(config.get("host", ""))),
            "seccomp": seccomp,
        }
    )


def _socket(host: str) -> str:
    named = host or _by_environment()
    if named:
        return named.removeprefix("unix://")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    own = (f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock") if runtime else ()
    found = (path for path in (*SOCKETS, *own) if Path(path).is_socket())
    return next(found, SOCKETS[0])


def _by_environment() -> str:
    """Take DOCKER_HOST where it is a socket: an engine elsewhere has not this node's files."""
    host = os.environ.get("DOCKER_HOST", "")
    return host if host.startswith("unix://") else ""


def _profile(config: Table, faults: list[str]) -> Table | None:
    path = config.get("seccomp-profile")
    if path is None:
        return None
    where = "[plugin.docker] seccomp-profile"
    try:
        profile = json.loads(Path(path).read_bytes())
    except OSError as exc:
        faults.append(f"{where}: cannot read {path}: {exc.strerror}")
    except ValueError as exc:
        faults.append(f"{where}: {path} is no JSON: {exc}")
    else:
        if isinstance(profile, dict) and isinstance(profile.get("syscalls"), list):
            return profile
        faults.append(f"{where}: {path} has no list `syscalls`")
    return None
