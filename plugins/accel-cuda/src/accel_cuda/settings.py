"""The plugin's own section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agent_core.contracts.errors import InvalidConfig, bullet_list


class Injection(StrEnum):
    """How a container comes by its devices."""

    NODES = "nodes"
    """Device nodes and environment: what every backend accepts."""
    CDI = "cdi"
    """Names of the Container Device Interface, for a runtime that has NVIDIA's specification."""
    REQUEST = "request"
    """A request to the runtime's own ``nvidia`` driver, such as Docker's."""
    ENV = "env"
    """Environment alone, for a runtime that reads it, or one that hides no device."""


SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "injection": {"enum": [str(way) for way in Injection]},
        "driver-capabilities": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        },
        "root": {"type": "string", "minLength": 1},
    },
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How devices are found and given.

    Attributes:
        injection: How a container comes by its devices.
        capabilities: The parts of the driver that a container may use.
        root: Where ``sys`` and ``proc`` are found.
    """

    injection: Injection = Injection.NODES
    capabilities: tuple[str, ...] = ("compute", "utility")
    root: Path = Path("/")


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read the section.

    Raises:
        InvalidConfig: with every fault in ``details.faults``.
    """
    faults = [f"unknown key {key!r}" for key in config if key not in SCHEMA["properties"]]
    injection = config.get("injection", Injection.NODES)
    if injection not in list(Injection):
        faults.append(f"injection is {injection!r}, not one of {', '.join(Injection)}")
    capabilities = config.get("driver-capabilities", Settings().capabilities)
    if not _are_texts(capabilities):
        faults.append(f"driver-capabilities is {capabilities!r}, not a list of names")
    root = config.get("root", "/")
    if not isinstance(root, str) or not root:
        faults.append(f"root is {root!r}, not a path")
    if faults:
        raise InvalidConfig(f"[plugin.cuda]: {bullet_list(faults)}", details={"faults": faults})
    return Settings(Injection(injection), tuple(sorted(set(capabilities))), Path(root))


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value)
