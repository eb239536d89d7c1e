"""Finding and reading the file of mock accelerators: all its faults at once, with their lines."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from accel_mock.model import Card, Rack, SlotFormat
from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import InvalidConfig, PluginDisabled, bullet_list
from agent_core.contracts.info import NumberFormat

FILE_NAME: Final = "mock-accelerator.toml"
VARIABLE: Final = "AGENT_MOCK_ACCELERATOR"

_TOP = ("slot_name", "device_plugin_name", "devices", "attributes", "formats")
_DEVICE = (
    "mother_uuid", "model_name", "numa_node", "subproc_count", "memory_size",
    "is_mig_device", "is_mig_devices",
)  # fmt: skip
_FORMAT = ("human_readable_name", "description", "display_unit", "display_icon", "number_format")
_IMPLEMENTATIONS = ("CUDADevice", "MockDevice")


def find_file(configured: str | None) -> Path:
    """Find the file that somebody put there on purpose; the working directory is not searched.

    Raises:
        PluginDisabled: when there is none, naming where it was looked for.
        InvalidConfig: when one is named that is not there.
    """
    named = configured or os.environ.get(VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            by = "[plugin.mock] file" if configured else f"${VARIABLE}"
            raise InvalidConfig(f"mock: {by} names {path}, which is not there")
        return path
    searched = [directory / FILE_NAME for directory in _directories()]
    found = next((path for path in searched if path.is_file()), None)
    if found is None:
        raise PluginDisabled(
            f"no {FILE_NAME}: [plugin.mock] file and ${VARIABLE} are not set, "
            f"searched {', '.join(str(path) for path in searched)}",
            plugin="mock",
            stage="open",
            hint="Mock accelerators appear only where a file declares them.",
        )
    return found


def _directories() -> list[Path]:
    home = os.environ.get("XDG_CONFIG_HOME") or (
        f"{os.environ['HOME']}/.config" if os.environ.get("HOME") else ""
    )
    roots = [Path(home)] if home else []
    return [root / name for root in (*roots, Path("/etc")) for name in ("agent-core", "backend.ai")]


def read_file(path: Path) -> Rack:
    """Read the file.

    Raises:
        InvalidConfig: with every fault of the file and its line in ``details.faults``.
    """
    try:
        text = path.read_text()
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InvalidConfig(f"mock: {path} cannot be read: {exc}") from exc
    reader = _Reader(text, content)
    rack = reader.rack()
    if reader.faults:
        faults = [f"{path}:{line}: {fault}" for line, fault in sorted(reader.faults)]
        raise InvalidConfig(
            f"mock: {bullet_list(faults)}",
            hint="Mend every fault listed; no mock accelerator is offered until then.",
            details={"faults": faults},
        )
    return rack


class _Reader:
    """One pass over the file's content that gathers faults instead of stopping at the first."""

    def __init__(self, text: str, content: Mapping[str, Any]) -> None:
        self._lines = text.splitlines()
        self._content = content
        self.faults: list[tuple[int, str]] = []

    def rack(self) -> Rack:
        """Read the top level and everything below."""
        content = self._content
        self._unknown(content, _TOP, 0, "the file")
        slot = self._text(content, "slot_name", self._line("slot_name"), r"[a-z][a-z0-9-]*")
        implementation = content.get("device_plugin_name", "MockDevice")
        if implementation not in _IMPLEMENTATIONS:
            line, known = self._line("device_plugin_name"), " or ".join(_IMPLEMENTATIONS)
            self._fault(line, f"device_plugin_name is {implementation!r}, not {known}")
        attributes = self._table(content, "attributes")
        return Rack(
            slot=slot,
            implementation=str(implementation),
            cards=tuple(self._cards(content.get("devices"))),
            attributes={str(k): str(v) for k, v in attributes.items()},
            formats=dict(self._formats(self._table(content, "formats"))),
        )

    def _cards(self, devices: object) -> Iterator[Card]:
        if not isinstance(devices, list) or not devices:
            self._fault(self._line("devices"), "devices is not a list of at least one device")
            return
        lines = self._device_lines(len(devices))
        partitions: dict[str, int] = {}
        taken: set[str] = set()
        for index, (table, line) in enumerate(zip(devices, lines, strict=True)):
            if not isinstance(table, dict):
                self._fault(line, f"devices[{index}] is not a table")
                continue
            card = self._card(index, table, line, partitions)
            if card.id in taken:
                self._fault(line, f"devices[{index}]: mother_uuid {card.mother!r} is there before")
            taken.add(card.id)
            yield card

    def _card(
        self, index: int, table: Mapping[str, Any], line: int, partitions: dict[str, int]
    ) -> Card:
        where = f"devices[{index}]"
        self._unknown(table, _DEVICE, line, where)
        mother = self._text(table, "mother_uuid", line, r"[A-Za-z0-9-]+", where)
        model = self._text(table, "model_name", line, r".+", where)
        card = Card(
            id=mother,
            index=index,
            mother=mother,
            model=model,
            numa_node=self._whole(table, "numa_node", line, where, least=0, optional=True),
            processors=self._whole(table, "subproc_count", line, where, least=1) or 1,
            memory=self._size(table, line, where),
        )
        if not self._is_partition(table, line, where):
            return card
        if not re.fullmatch(r"MIG-[A-Za-z0-9.]+", model):
            self._fault(line, f"{where}: the model_name of a MIG partition is MIG-<size>")
        number = partitions.get(mother, 0)
        partitions[mother] = number + 1
        return Card(
            id=f"MIG-{mother}/{number}/0",
            index=index,
            mother=mother,
            model=model,
            numa_node=card.numa_node,
            processors=card.processors,
            memory=card.memory,
            profile=model.removeprefix("MIG-"),
        )

    def _is_partition(self, table: Mapping[str, Any], line: int, where: str) -> bool:
        said = {table[key] for key in ("is_mig_device", "is_mig_devices") if key in table}
        if any(not isinstance(value, bool) for value in said):
            self._fault(line, f"{where}: is_mig_device is not true or false")
        elif len(said) > 1:
            self._fault(line, f"{where}: is_mig_device and is_mig_devices contradict each other")
        return True in said

    def _formats(self, tables: Mapping[str, Any]) -> Iterator[tuple[str, SlotFormat]]:
        for subtype, table in tables.items():
            line = self._line(rf'\[formats\."?{re.escape(subtype)}"?\]', "")
            if not isinstance(table, dict):
                self._fault(line, f"formats.{subtype} is not a table")
                continue
            self._unknown(table, _FORMAT, line, f"formats.{subtype}")
            texts = {k: str(table[k]) for k in _FORMAT[:-1] if k in table}
            number = self._number_format(table.get("number_format", {}), line, subtype)
            yield subtype, SlotFormat(**texts, number_format=number)

    def _number_format(self, table: object, line: int, subtype: str) -> NumberFormat:
        where = f"formats.{subtype}.number_format"
        if not isinstance(table, dict):
            self._fault(line, f"{where} is not a table of binary and round_length")
            return NumberFormat()
        self._unknown(table, ("binary", "round_length"), line, where)
        places = self._whole(table, "round_length", line, where, least=0, optional=True)
        return NumberFormat(bool(table.get("binary", False)), places or 0)

    # ---- single values ---------------------------------------------------------------------------

    def _text(
        self, table: Mapping[str, Any], key: str, line: int, pattern: str, where: str = ""
    ) -> str:
        value = table.get(key)
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        why = "is missing" if value is None else f"is {value!r}, not a text like {pattern}"
        self._fault(line, f"{where}: {key} {why}" if where else f"{key} {why}")
        return ""

    def _whole(
        self,
        table: Mapping[str, Any],
        key: str,
        line: int,
        where: str,
        *,
        least: int,
        optional: bool = False,
    ) -> int | None:
        value = table.get(key)
        if value is None and optional:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        why = "is missing" if value is None else f"is {value!r}, not a whole number from {least} on"
        self._fault(line, f"{where}: {key} {why}")
        return None

    def _size(self, table: Mapping[str, Any], line: int, where: str) -> int:
        try:
            size = Amount.parse_size(str(table["memory_size"])).value
            if size:
                return size
            self._fault(line, f"{where}: memory_size is zero")
        except KeyError:
            self._fault(line, f"{where}: memory_size is missing")
        except ValueError as exc:
            self._fault(line, f"{where}: memory_size: {exc}")
        return 1

    def _table(self, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        table = content.get(key, {})
        if isinstance(table, dict):
            return table
        self._fault(self._line(key), f"{key} is not a table")
        return {}

    def _unknown(
        self, table: Mapping[str, Any], known: tuple[str, ...], line: int, where: str
    ) -> None:
        for key in table:
            if key not in known:
                meant = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {meant[0]!r}?" if meant else ""
                found = self._line(re.escape(key)) if line == 0 else line
                self._fault(found, f"{where} has the unknown key {key!r}{hint}")

    # ---- where things are ------------------------------------------------------------------------

    def _fault(self, line: int, text: str) -> None:
        self.faults.append((line, text))

    def _line(self, key: str, after: str = r"\s*[=\].]") -> int:
        """Find the first line that gives a key at the top level, or 1."""
        pattern = re.compile(rf"\s*\[*{key}{after}" if after else rf"\s*{key}")
        numbered = enumerate(self._lines, 1)
        return next((number for number, text in numbered if pattern.match(text)), 1)

    def _device_lines(self, count: int) -> list[int]:
        """Find the line of each device, in whichever of the two notations they are written."""
        for pattern in (r"\s*\[\[\s*devices\s*\]\]", r".*\bmother_uuid\b"):
            found = [n for n, text in enumerate(self._lines, 1) if re.match(pattern, text)]
            if len(found) == count:
                return found
        return [self._line("devices")] * count
