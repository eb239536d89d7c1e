"""What the engine is asked for: a specification as the body of a create, without any side effect.

The field names are those of the Engine API, `POST /containers/create`
(https://docs.docker.com/reference/api/engine/, version 1.41).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

from agent_backend_docker.declaration import CAPABILITIES_KEPT
from agent_backend_docker.settings import Settings
from agent_core.contracts.backend import ContainerSpec
from agent_core.contracts.edits import ContainerEdits, Mount, Permission
from agent_core.contracts.errors import Unsupported

OWNER: Final = "ai.backend.owner"
RECORD: Final = "ai.backend.record"
DIGEST: Final = "ai.backend.spec-digest"
RESERVED: Final = frozenset({OWNER, RECORD, DIGEST})
"""Labels of the backend itself; nobody's edits set them."""

_LIMITS: Final = frozenset({"cpus", "memory", "swap", "shm", "pids"})
_LOG_FILES: Final = 4
_LEAST_LOG_FILE: Final = 4 << 10
_BLOCK_IO: Final = {
    "read-bps": "BlkioDeviceReadBps",
    "write-bps": "BlkioDeviceWriteBps",
    "read-iops": "BlkioDeviceReadIOps",
    "write-iops": "BlkioDeviceWriteIOps",
}

Body = dict[str, Any]


def create_body(spec: ContainerSpec, settings: Settings) -> Body:
    """Render a specification.

    Raises:
        Unsupported: when the edits need what this backend cannot do.
    """
    refuse_what_cannot_be(spec.edits, settings)
    return {
        "Image": spec.image,
        "Entrypoint": [*spec.argv],
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in environment(spec).items()],
        "WorkingDir": spec.cwd,
        **({"User": spec.user} if spec.user else {}),
        **({"Hostname": spec.hostname} if spec.hostname else {}),
        "Labels": labels(spec),
        "StopSignal": "SIGTERM",
        "ExposedPorts": {f"{port.container_port}/tcp": {} for port in spec.ports},
        "HostConfig": host_config(spec, settings),
        "NetworkingConfig": {"EndpointsConfig": dict(_endpoints(spec))},
    }


def environment(spec: ContainerSpec) -> Mapping[str, str]:
    """The whole environment, with the libraries to preload in front of what is preloaded."""
    if not spec.edits.preload:
        return spec.env
    before = [*spec.edits.preload, *filter(None, [spec.env.get("LD_PRELOAD")])]
    return {**spec.env, "LD_PRELOAD": ":".join(before)}


def refuse_what_cannot_be(edits: ContainerEdits, settings: Settings) -> None:
    """Refuse edits that no create could honour.

    Raises:
        Unsupported: naming the field.
    """
    if edits.hooks:
        raise Unsupported("hooks: a Docker engine runs no OCI hooks")
    if edits.syscalls and settings.seccomp is None:
        raise Unsupported(
            f"syscalls {', '.join(edits.syscalls)}: there is no profile to add them to",
            hint="Name the engine's profile as [plugin.docker] seccomp-profile.",
        )
    if unknown := sorted(edits.limits.keys() - _LIMITS):
        raise Unsupported(f"limits: the Docker backend knows no {', '.join(unknown)}")
    if taken := sorted(edits.labels.keys() & RESERVED):
        raise Unsupported(f"labels: {', '.join(taken)} is the backend's own")


def labels(spec: ContainerSpec) -> dict[str, str]:
    """The container's labels: the edits', and those by which it is found again."""
    return {
        **spec.edits.labels,
        OWNER: spec.owner,
        RECORD: json.dumps(spec.record, separators=(",", ":"), sort_keys=True),
        DIGEST: spec_digest(spec),
    }


def spec_digest(spec: ContainerSpec) -> str:
    """Digest a specification, so that another one under the same name is noticed."""
    plain = json.dumps(spec, sort_keys=True, default=_plain)
    return f"sha256:{hashlib.sha256(plain.encode(errors='surrogateescape')).hexdigest()}"


def _plain(value: Any) -> object:
    """Say in JSON what it has no form for; `asdict` of the whole would take three times as long."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value.hex() if isinstance(value, bytes) else str(value)


def host_config(spec: ContainerSpec, settings: Settings) -> Body:
    """Render what bounds a container and what of the host it is given."""
    edits = spec.edits
    return {
        **limits(edits, settings),
        "NetworkMode": edits.networks[0] if edits.networks else settings.network,
        "PortBindings": dict(_bindings(spec)),
        "Mounts": [mount(each) for each in edits.mounts],
        "Devices": [
            {
                "PathOnHost": node.host_path,
                "PathInContainer": node.path,
                "CgroupPermissions": node.permissions,
            }
            for node in edits.device_nodes
        ],
        "DeviceRequests": [
            {
                "Driver": request.driver,
                "DeviceIDs": [*request.device_ids],
                "Capabilities": [[*request.capabilities]],
            }
            for request in edits.device_requests
        ]
        + ([{"Driver": "cdi", "DeviceIDs": [*edits.cdi_names]}] if edits.cdi_names else []),
        "GroupAdd": [*edits.groups],
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value} for name, value in edits.rlimits.items()
        ],
        "CapDrop": ["ALL"],
        "CapAdd": sorted({*CAPABILITIES_KEPT, *settings.capabilities}),
        "SecurityOpt": [*_security(edits, settings)],
        "LogConfig": log_config(spec.log_limit, settings.log_driver),
        "RestartPolicy": {"Name": "no"},
        "Init": settings.init,
        **({"Runtime": settings.runtime} if settings.runtime else {}),
        **({"CgroupParent": settings.cgroup_parent} if settings.cgroup_parent else {}),
        **dict(_block_io(settings.block_io)),
    }


def limits(edits: ContainerEdits, settings: Settings) -> Body:
    """Render the bounds of CPU time, cores, memory and processes.

    ``swap`` is what may be used beside the memory; the engine counts both together. Without a word
    of it there is none: a kernel has the memory that was allocated and no more.
    """
    body: Body = {"PidsLimit": edits.limits.get("pids", settings.pids_limit) or None}
    if cpus := edits.limits.get("cpus"):
        body["NanoCpus"] = cpus * 1_000_000
    if memory := edits.limits.get("memory"):
        body["Memory"] = memory
        body["MemorySwap"] = memory + edits.limits.get("swap", 0)
    if shm := edits.limits.get("shm"):
        body["ShmSize"] = shm
    if edits.cpuset is not None:
        body["CpusetCpus"] = _numbers(edits.cpuset.cpus)
        body["CpusetMems"] = _numbers(edits.cpuset.mems)
    return body


def mount(each: Mount) -> Body:
    """Render a mount; a source that is not there is an error, where `Binds` would create it."""
    return {
        "Type": "bind",
        "Source": each.source,
        "Target": each.target,
        "ReadOnly": each.permission is Permission.RO,
        "BindOptions": {"Propagation": "rprivate"},
    }


def log_config(limit: int, driver: str) -> Body:
    """Bound the log: several files, so that dropping the oldest leaves most of it."""
    size = max(limit // _LOG_FILES, _LEAST_LOG_FILE)
    options = {"max-size": str(size), "max-file": str(_LOG_FILES), "compress": "false"}
    return {"Type": driver, "Config": options}


def aliases(spec: ContainerSpec) -> Sequence[str]:
    """The names that peers on the container's networks reach it by."""
    return [spec.hostname] if spec.hostname else []


def _endpoints(spec: ContainerSpec) -> Iterator[tuple[str, Body]]:
    """Join the first network; engines before 25 take no further ones in a create."""
    if spec.edits.networks:
        yield spec.edits.networks[0], {"Aliases": [*aliases(spec)]}


def _bindings(spec: ContainerSpec) -> Iterator[tuple[str, list[Body]]]:
    for port in spec.ports:
        place = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        yield f"{port.container_port}/tcp", [place]


def _security(edits: ContainerEdits, settings: Settings) -> Iterator[str]:
    if settings.no_new_privileges:
        yield "no-new-privileges:true"
    if settings.seccomp is not None:
        allowed = {"names": [*edits.syscalls], "action": "SCMP_ACT_ALLOW"}
        more = [allowed] if edits.syscalls else []
        profile = {**settings.seccomp, "syscalls": [*settings.seccomp["syscalls"], *more]}
        yield f"seccomp={json.dumps(profile, separators=(',', ':'))}"


def _block_io(devices: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, list[Body]]]:
    for key, field in _BLOCK_IO.items():
        rates = [{"Path": d, "Rate": of[key]} for d, of in devices.items() if key in of]
        if rates:
            yield field, rates


def _numbers(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
