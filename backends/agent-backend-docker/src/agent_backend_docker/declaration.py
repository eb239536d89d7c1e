"""What the Docker backend says of itself before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.backend import CAPABILITIES
from agent_core.contracts.info import EditOutcome, EditTreatment, PluginInfo, Support

SOCKETS: Final = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")
"""Where an engine's socket is looked for when neither ``host`` nor DOCKER_HOST names one."""

LOG_DRIVERS: Final = ("local", "json-file")

CDI_SPEC_DIRS: Final = ("/etc/cdi", "/var/run/cdi")
"""Where runtimes look for CDI files."""

CAPABILITIES_KEPT: Final = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""The Linux capabilities that remain where a kernel runs as root; all others are dropped."""

PIDS_LIMIT: Final = 4096
"""The most processes and threads of one kernel where nothing else is configured."""


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _whole(description: str, default: int, least: int = 0) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "default": default, "description": description}


def _seconds(description: str, default: float) -> dict[str, Any]:
    return {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": default,
        "description": description,
    }


def _switch(description: str, *, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": description}


def _table(description: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
    }


def _tables(description: str, **properties: Any) -> dict[str, Any]:
    entry = _table("", **properties)
    return {"type": "object", "description": description, "additionalProperties": entry}


def _rate(description: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "description": description}


_SCHEMA: Final[Mapping[str, Any]] = _table(
    "",
    host=_text("The engine's socket, as unix:///run/docker.sock; by default DOCKER_HOST, else "
               "the first that is there of the usual ones.", pattern=r"^(unix://)?/.+"),
    deadline=_seconds("Seconds that an ordinary request to the engine may take.", 30.0),
    **{
        "slow-deadline": _seconds(
            "Seconds that making, starting, ending or removing one container may take: a busy disk "
            "is slow, and not dead.", 120.0
        ),
        "concurrent-starts": _whole("How many containers are started at once.", 6, 1),
        "concurrent-removals": _whole("How many containers are removed at once.", 8, 1),
        "pids-limit": _whole(
            "The most processes and threads of one kernel, 0 for no bound.", PIDS_LIMIT
        ),
        "network": _text("What kernels without a network of their own join: bridge, none, host, "
                         "or the name of a network.", default="bridge"),
        "init": _switch("Whether the engine's own init runs before the kernel's runner, which is "
                        "one itself.", default=False),
        "capabilities": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Z_]+$"},
            "default": [],
            "description": "Linux capabilities that kernels have beyond the few that are kept.",
        },
        "cdi-spec-dirs": {
            "type": "array",
            "items": {"type": "string", "pattern": "^/"},
            "default": list(CDI_SPEC_DIRS),
            "description": "Where the host's CDI files are, for an engine that reads none; a file "
            "in a later directory wins.",
        },
        "no-new-privileges": _switch("Whether set-user-ID programs have no effect.", default=True),
        "seccomp-profile": _text("A file with the profile of system calls; without one the "
                                 "engine's own default holds, and plugins can add no calls."),
        "runtime": _text("The engine's runtime, such as runc or nvidia; by default its own."),
        "cgroup-parent": _text("The cgroup below which those of the kernels are."),
        "log-driver": {
            "enum": list(LOG_DRIVERS),
            "default": "local",
            "description": "How the engine keeps what a kernel prints.",
        },
        "stall": _seconds("Seconds without progress after which a pull or a push is given up.", 60),
        "swarm-enabled": _switch(
            "Whether sessions have overlay networks over several nodes.", default=False
        ),
        "block-io": _tables(
            "By device, such as /dev/sda, how fast each kernel may read and write.",
            **{
                "read-bps": _rate("Bytes that are read in a second at the most."),
                "write-bps": _rate("Bytes that are written in a second at the most."),
                "read-iops": _rate("Reads in a second at the most."),
                "write-iops": _rate("Writes in a second at the most."),
            },
        ),
        "registries": _tables(
            "By registry, such as localhost:5000, who pulls and pushes there; beside those that "
            "`docker login` has kept.",
            username=_text("The user."),
            password=_text("The password or token."),
        ),
    },
)  # fmt: skip

INFO: Final = PluginInfo(
    kind="backend",
    name="docker",
    summary="Kernels as containers of a Docker engine",
    config_schema=_SCHEMA,
    capabilities=dict.fromkeys(CAPABILITIES, Support.YES),
    # A crowd waits for its turn, and each turn has a deadline of its own.
    deadlines={"create": 600.0, "start": 600.0, "remove": 600.0},
)

_APPLIED: Final = EditOutcome.APPLIED

EDITS: Final[Mapping[str, EditTreatment]] = {
    "env": EditTreatment(_APPLIED),
    "path_env": EditTreatment(_APPLIED),
    "preload": EditTreatment(_APPLIED, "as `LD_PRELOAD`"),
    "device_nodes": EditTreatment(_APPLIED),
    "mounts": EditTreatment(
        _APPLIED, "a source that is not there is refused; `rw-delete` is the same as `rw`"
    ),
    "files": EditTreatment(_APPLIED, "owned by root, in the container's own layer"),
    "cdi_names": EditTreatment(
        _APPLIED,
        "by the engine where it has CDI, else from the host's CDI files; a device whose file asks "
        "for hooks is refused there",
    ),
    "device_requests": EditTreatment(_APPLIED),
    "groups": EditTreatment(_APPLIED),
    "rlimits": EditTreatment(_APPLIED, "up to what the engine itself may give"),
    "limits": EditTreatment(_APPLIED, "cpus, memory, swap, shm and pids"),
    "cpuset": EditTreatment(_APPLIED),
    "syscalls": EditTreatment(
        _APPLIED, "added to `seccomp-profile`; refused where none is configured"
    ),
    "networks": EditTreatment(_APPLIED),
    "labels": EditTreatment(_APPLIED),
    "resource_data": EditTreatment(
        EditOutcome.WITHOUT_EFFECT, "the kernel's resource file has them"
    ),
    "hooks": EditTreatment(EditOutcome.REFUSED),
}
"""What becomes of each edit; the tests try every one of them."""
