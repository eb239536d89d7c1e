"""The plugin's own section of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import InvalidConfig, bullet_list

_HUNDREDTH: Final = Amount(1, 2)
_FINEST: Final = Amount(1, 6)
_ALIASES: Final = {"quantum-size": "quantum"}
_SIZE: Final = {"type": ["integer", "string"]}
_DECIMAL: Final = {"type": ["string", "number"]}

_KIND: Final[Mapping[str, Mapping[str, Any]]] = {
    "allocation-mode": {
        "enum": ["discrete", "fractional"],
        "default": "fractional",
        "description": "discrete: whole devices only; fractional: whole devices and shares of them",
    },
    "unit-mem": {
        **_SIZE,
        "description": "the device memory that makes 1.0 share; by default all that a device has",
    },
    "unit-proc": {
        "type": "integer",
        "minimum": 1,
        "description": "the sub-processors that make 1.0 share; by default all that a device has",
    },
    "quantum": {
        **_DECIMAL,
        "default": "0.01",
        "description": "the smallest share; one share is a multiple of it",
    },
    "quantum-size": {**_DECIMAL, "description": "another name of quantum"},
    "reserved-memory": {
        **_SIZE,
        "default": "64m",
        "description": "what a holder of shares is told that the driver needs of its memory",
    },
    "device-mask": {
        "type": ["string", "array"],
        "items": {"type": "string"},
        "description": "devices that are left out, by id or glob: a list, or with commas between",
    },
}


def _both_spellings() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, schema in _KIND.items():
        yield key, schema
        if "-" in key:
            yield key.replace("-", "_"), {**schema, "description": f"another spelling of {key}"}


SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {
            "type": "string",
            "minLength": 1,
            "description": "the file with the devices of one kind",
        },
        "files": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "description": "files with the devices of several kinds, one file for each slot_name",
        },
        "script": {
            "type": "string",
            "minLength": 1,
            "description": "a file with a script: what happens to the devices, and when",
        },
        "seed": {
            "type": "integer",
            "default": 0,
            "description": "readings and drawn times are the same for the same seed",
        },
        **dict(_both_spellings()),
        "kinds": {
            "type": "object",
            "description": "by slot_name, what is otherwise for this kind than for the others",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": dict(_both_spellings()),
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Dealing:
    """How the devices of one kind are offered.

    Attributes:
        shares: Whether shares are offered beside whole devices.
        unit_memory: Bytes that make 1.0 share, or None for all that a device has.
        unit_processors: Sub-processors that make 1.0 share, or None for all that a device has.
        quantum: The smallest share.
        reserved: Bytes that the driver is said to need of what a holder of shares has.
        mask: Globs of the devices that are left out.
    """

    shares: bool = True
    unit_memory: int | None = None
    unit_processors: int | None = None
    quantum: Amount = _HUNDREDTH
    reserved: int = 64 << 20
    mask: tuple[str, ...] = ()

    @property
    def per_share(self) -> int:
        """How many quanta are 1.0 share."""
        return _per_share(self.quantum)


@cache
def _per_share(quantum: Amount) -> int:
    return Amount(1).quanta(quantum) or 1


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole section.

    Attributes:
        files: The files with the devices; none to search for one.
        script: The file with a script, or None.
        seed: Of the mock readings and of drawn times.
        dealing: How devices are offered.
        kinds: The same for single kinds, by slot name.
    """

    files: tuple[Path, ...] = ()
    script: Path | None = None
    seed: int = 0
    dealing: Dealing = field(default_factory=Dealing)
    kinds: Mapping[str, Dealing] = field(default_factory=dict)

    def of_kind(self, slot: str) -> Dealing:
        """Say how the devices of a kind are offered."""
        return self.kinds.get(slot, self.dealing)


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read the section, with dashes or underscores in its keys.

    Raises:
        InvalidConfig: with every fault in ``details.faults``.
    """
    faults: list[str] = []
    values = _spelled(config, faults)
    if "file" in values and "files" in values:
        faults.append("file and files are both given; put all of them into files")
    named = [values["file"]] if "file" in values else list(values.get("files", ()))
    script = values.get("script")
    dealing = _Reader(values, faults).dealing(Dealing())
    settings = Settings(
        files=tuple(dict.fromkeys(Path(name).expanduser() for name in named)),
        script=Path(script).expanduser() if script else None,
        seed=int(values.get("seed", 0)),
        dealing=dealing,
        kinds={
            slot: _Reader(_spelled(of, faults), faults, f"kinds.{slot} ").dealing(dealing)
            for slot, of in values.get("kinds", {}).items()
        },
    )
    if faults:
        raise InvalidConfig(f"[plugin.mock]: {bullet_list(faults)}", details={"faults": faults})
    return settings


def _spelled(config: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for raw, value in config.items():
        key = _ALIASES.get(raw.replace("_", "-"), raw.replace("_", "-"))
        if key in values and values[key] != value:
            faults.append(f"{key} is given twice, as {values[key]!r} and as {value!r}")
        values[key] = value
    return values


class _Reader:
    """Reads how devices are offered, over what is so otherwise."""

    def __init__(self, values: Mapping[str, Any], faults: list[str], where: str = "") -> None:
        self._values = values
        self._faults = faults
        self._where = where

    def dealing(self, otherwise: Dealing) -> Dealing:
        """Read the keys that are given."""
        readers: Mapping[str, tuple[str, Callable[[str], Any]]] = {
            "allocation-mode": ("shares", self._mode),
            "unit-mem": ("unit_memory", self._positive),
            "unit-proc": ("unit_processors", self._positive),
            "quantum": ("quantum", self._quantum),
            "reserved-memory": ("reserved", self._size),
            "device-mask": ("mask", self._mask),
        }
        given = {name: read(key) for key, (name, read) in readers.items() if key in self._values}
        dealing = replace(otherwise, **given)
        if dealing.unit_memory is not None and dealing.unit_memory < dealing.per_share:
            self._fault("unit-mem", f"is {dealing.unit_memory}, less than a byte for each quantum")
        return dealing

    def _fault(self, key: str, what: str) -> None:
        self._faults.append(f"{self._where}{key} {what}")

    def _mode(self, key: str) -> bool:
        mode = self._values[key]
        if mode not in ("discrete", "fractional"):
            self._fault(key, f"is {mode!r}, not discrete or fractional")
        return bool(mode == "fractional")

    def _size(self, key: str) -> int:
        try:
            return Amount.parse_size(str(self._values[key])).value
        except ValueError as exc:
            self._fault(key, f"is no size: {exc}")
            return 1 << 30

    def _positive(self, key: str) -> int:
        size = self._size(key)
        if not size:
            self._fault(key, "is zero")
        return size or 1 << 30

    def _quantum(self, key: str) -> Amount:
        try:
            quantum = Amount.parse(str(self._values[key]))
        except ValueError as exc:
            self._fault(key, f"is no share: {exc}")
            return _HUNDREDTH
        if not quantum or Amount(1).quanta(quantum) is None:
            self._fault(key, f"is {quantum}; 1 is not a multiple of it")
            return _HUNDREDTH
        if quantum < _FINEST:
            self._fault(key, f"is {quantum}; {_FINEST} is the finest")
            return _HUNDREDTH
        return quantum

    def _mask(self, key: str) -> tuple[str, ...]:
        value = self._values[key]
        items = value.split(",") if isinstance(value, str) else value
        return tuple(filter(None, (item.strip() for item in items)))
