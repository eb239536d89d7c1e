"""What the process backend says of itself before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.backend import CAPABILITIES
from agent_core.contracts.info import EditOutcome, EditTreatment, PluginInfo, Support

_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "kill": {
            "description": "How a container is killed whole; auto takes cgroups where permitted.",
            "enum": ["auto", "cgroup", "process-tree"],
            "default": "auto",
        },
        "pids-limit": {
            "description": "The most processes and threads of one kernel, 0 for no bound. Without "
            "this key 4096 where cgroups permit; with it, cgroups must permit.",
            "type": "integer",
            "minimum": 0,
        },
        "images": {
            "description": "Interpreters by name: a path, or a table of path and type.",
            "type": "object",
            "additionalProperties": {
                "oneOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["path"],
                        "properties": {
                            "path": {"type": "string"},
                            "type": {"type": "string", "pattern": "^(python|shell|jupyter(:.+)?)$"},
                        },
                    },
                ],
            },
        },
    },
}

INFO: Final = PluginInfo(
    kind="backend",
    name="process",
    summary="Kernels as processes of this host, without any isolation",
    config_schema=_SCHEMA,
    # What cgroups can do depends on the node and is known after start_up.
    capabilities={
        **dict.fromkeys(CAPABILITIES, Support.NO),
        "processes": Support.YES,
        "kill.whole": Support.UNKNOWN,
        "limits.pids": Support.UNKNOWN,
    },
)

_APPLIED: Final = EditOutcome.APPLIED
_WITHOUT_EFFECT: Final = EditOutcome.WITHOUT_EFFECT
_REFUSED: Final = EditTreatment(EditOutcome.REFUSED)

EDITS: Final[Mapping[str, EditTreatment]] = {
    "env": EditTreatment(_APPLIED),
    "path_env": EditTreatment(_APPLIED),
    "preload": EditTreatment(_APPLIED, "as `LD_PRELOAD`"),
    "device_nodes": EditTreatment(
        _WITHOUT_EFFECT,
        "a process can open all that its user can; refused at another path than the host's",
    ),
    "mounts": EditTreatment(
        _WITHOUT_EFFECT,
        "a process sees the source where it is; refused at another path, and read-only is not "
        "enforced",
    ),
    "files": EditTreatment(
        _APPLIED, "below the working directory or a writable mount; refused elsewhere"
    ),
    "cdi_names": _REFUSED,
    "device_requests": _REFUSED,
    "groups": EditTreatment(_APPLIED, "without root only groups that the agent has"),
    "rlimits": EditTreatment(_APPLIED, "without root up to the agent's own hard limit"),
    "limits": EditTreatment(
        _WITHOUT_EFFECT,
        "CPU time and memory are not bounded; `pids` is applied where cgroups permit",
    ),
    "cpuset": EditTreatment(_APPLIED, "cores by scheduling affinity; memory nodes are not bound"),
    "syscalls": EditTreatment(_WITHOUT_EFFECT, "a process may make every system call"),
    "networks": _REFUSED,
    "labels": EditTreatment(_WITHOUT_EFFECT),
    "resource_data": EditTreatment(_WITHOUT_EFFECT, "no resource file is written"),
    "hooks": _REFUSED,
}
"""What becomes of each edit; the tests try every one of them."""

PIDS_LIMIT: Final = 4096
"""The most processes of one kernel where nothing else is configured."""


def facts(kill_method: str, group_kill: str, pids_limit: int) -> dict[str, str]:
    """Say in words what an operator should know of this backend on this node."""
    limits = "CPU time and memory are measured at most, not bounded"
    if pids_limit:
        limits = f"{pids_limit} processes and threads for one kernel; {limits}"
    else:
        limits = f"none: the number of processes, {limits}"
    kill = "killing all descendants, best effort" if not group_kill else f"cgroup ({group_kill})"
    return {
        "isolation": "none: kernels see the host's files, devices, network and processes",
        "limits": limits,
        "kill": kill,
        "kill-method": kill_method,
    }
