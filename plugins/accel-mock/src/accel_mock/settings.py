"""The plugin's own section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import InvalidConfig, bullet_list

_HUNDREDTH: Final = Amount(1, 2)
_SIZE: Final = {"type": ["integer", "string"]}
_ALIASES: Final = {"quantum-size": "quantum"}

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "minLength": 1},
        "allocation-mode": {"enum": ["discrete", "fractional"]},
        "allocation_mode": {"enum": ["discrete", "fractional"]},
        "unit-mem": _SIZE,
        "unit_mem": _SIZE,
        "unit-proc": {"type": "integer", "minimum": 1},
        "unit_proc": {"type": "integer", "minimum": 1},
        "quantum": {"type": ["string", "number"]},
        "quantum-size": {"type": ["string", "number"]},
        "quantum_size": {"type": ["string", "number"]},
        "seed": {"type": "integer"},
    },
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How devices are offered.

    Attributes:
        file: The file with the devices, or None to search for it.
        shares: Whether shares are offered beside whole devices.
        unit_memory: Bytes that make 1.0 share, or None for all that a device has.
        unit_processors: Sub-processors that make 1.0 share, or None for all that a device has.
        quantum: The smallest share.
        seed: Of the mock readings.
    """

    file: str | None = None
    shares: bool = True
    unit_memory: int | None = None
    unit_processors: int | None = None
    quantum: Amount = _HUNDREDTH
    seed: int = 0


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read the section, with dashes or underscores in its keys.

    Raises:
        InvalidConfig: with every fault in ``details.faults``.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for raw, value in config.items():
        key = _ALIASES.get(raw.replace("_", "-"), raw.replace("_", "-"))
        if key in values and values[key] != value:
            faults.append(f"{key} is given twice, as {values[key]!r} and as {value!r}")
        values[key] = value
    mode = values.get("allocation-mode", "fractional")
    if mode not in ("discrete", "fractional"):
        faults.append(f"allocation-mode is {mode!r}, not discrete or fractional")
    settings = Settings(
        file=values.get("file"),
        shares=mode == "fractional",
        unit_memory=_positive(values.get("unit-mem"), "unit-mem", faults),
        unit_processors=_positive(values.get("unit-proc"), "unit-proc", faults),
        quantum=_quantum(values.get("quantum", _HUNDREDTH), faults),
        seed=int(values.get("seed", 0)),
    )
    if faults:
        raise InvalidConfig(f"[plugin.mock]: {bullet_list(faults)}", details={"faults": faults})
    return settings


def _positive(value: object, key: str, faults: list[str]) -> int | None:
    if value is None:
        return None
    try:
        size = Amount.parse_size(str(value)).value
    except ValueError as exc:
        faults.append(f"{key}: {exc}")
        return None
    if not size:
        faults.append(f"{key} is zero")
    return size or None


def _quantum(value: object, faults: list[str]) -> Amount:
    try:
        quantum = Amount.parse(str(value))
    except ValueError as exc:
        faults.append(f"quantum: {exc}")
        return Amount(1)
    if not quantum or Amount(1).quanta(quantum) is None:
        faults.append(f"quantum is {quantum}; 1 is not a multiple of it")
        return Amount(1)
    return quantum
