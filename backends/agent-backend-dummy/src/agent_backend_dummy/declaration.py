"""What the dummy backend says of itself before it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.backend import CAPABILITIES
from agent_core.contracts.edits import EDIT_FIELDS
from agent_core.contracts.info import EditOutcome, EditTreatment, PluginInfo, Support

# What these look like is checked in `settings`, which says how to mend it.
_DELAY: Final[Mapping[str, Any]] = {
    "description": "Seconds, or a pair: a pair is drawn from anew at each call."
}

AGENT_DELAYS: Final = (
    *("scan-image", "pull-image", "push-image", "purge-images", "destroy-kernel", "clean-kernel"),
    *("create-network", "destroy-network"),
)
CREATION_DELAYS: Final = (
    *("prepare-scratch", "prepare-ssh", "spawn", "start-container", "mount-krunner"),
)
KERNEL_DELAYS: Final = (
    *("check-status", "get-completions", "get-logs", "interrupt-kernel", "start-service"),
    *("start-model-service", "shutdown-service", "commit", "get-service-apps", "accept-file"),
    *("download-file", "download-single", "list-files"),
)


def _table(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _delays(names: tuple[str, ...]) -> dict[str, Any]:
    return _table(dict.fromkeys(names, _DELAY))


_NAMES: Final[Mapping[str, Any]] = {
    "description": "Names of images: a list, or a table whose keys they are."
}
_SIZE: Final[Mapping[str, Any]] = {"description": "Bytes, or a size such as 32G."}
_CORES: Final[Mapping[str, Any]] = {
    "description": "The numbers of the cores: a list, or a text such as 0-9."
}
_FAULT: Final[Mapping[str, Any]] = {"description": "A fault; see `faults`.", "type": "object"}

SCHEMA: Final[Mapping[str, Any]] = _table(
    {
        "seed": {"description": "The same seed and calls make the same day.", "type": "integer"},
        "faults": {"description": "A TOML file with [[fault]] tables.", "type": "string"},
        "fault": {"type": "array", "items": _FAULT},
        "agent": _table(
            {
                "intrinsic": _table(
                    {
                        "cpu": _table({"core-indexes": _CORES}),
                        "memory": _table({"size": _SIZE}),
                    }
                ),
                "resource": _table(
                    {
                        "cpu": _table({"num-core": {"description": "How many cores there are."}}),
                        "memory": _table({"size": _SIZE}),
                    }
                ),
                "delay": _delays(AGENT_DELAYS),
                "image": _table(
                    {"already-have": _NAMES, "need-to-pull": _NAMES, "missing": _NAMES}
                ),
            }
        ),
        "kernel-creation-ctx": _table({"delay": _delays(CREATION_DELAYS)}),
        "kernel": _table(
            {"use-fake-code-runner": {"type": "boolean"}, "delay": _delays(KERNEL_DELAYS)}
        ),
    }
)

INFO: Final = PluginInfo(
    kind="backend",
    name="dummy",
    summary="Simulates a node: kernels hold what they were promised, and nothing runs",
    config_schema=SCHEMA,
    sections=(
        *("agent.intrinsic", "agent.resource", "agent.delay", "agent.image"),
        *("kernel", "kernel-creation-ctx"),
    ),
    capabilities={
        **dict.fromkeys(CAPABILITIES, Support.YES),
        "processes": Support.NO,
        "images.save": Support.NO,  # there is nothing in them
    },
)

EDITS: Final[Mapping[str, EditTreatment]] = dict.fromkeys(
    EDIT_FIELDS, EditTreatment(EditOutcome.APPLIED, "simulated: kept with the container")
)
"""What becomes of each edit."""

FACTS: Final[Mapping[str, str]] = {
    "simulation": "nothing runs: kernels hold their slots and report no use of them",
    "isolation": "complete, since there is nothing that could reach out",
    "execution": "code is accepted and not executed; a run ends at once with exit code 0",
}
