"""What the process backend says of itself before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.backend import CAPABILITIES
from agent_core.contracts.info import PluginInfo, Support

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
                            "type": {"enum": ["python", "shell"]},
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
        "kill.whole": Support.UNKNOWN,
        "limits.pids": Support.UNKNOWN,
    },
)

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
