"""Finding and reading the file of mock accelerators: all its faults at once, with their lines."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from accel_mock.cards import Cards
from accel_mock.document import Document
from accel_mock.model import Links, Rack, SlotFormat, Step
from accel_mock.script import DEFAULT_KIND, KIND, Script, all_pairs, connected
from accel_mock.table import Table, meant
from agent_core.contracts.errors import InvalidConfig, PluginDisabled, bullet_list
from agent_core.contracts.info import CORE_SLOTS, NumberFormat

FILE_NAME: Final = "mock-accelerator.toml"
VARIABLE: Final = "AGENT_MOCK_ACCELERATOR"
CUDA: Final = "CUDADevice"

_TOP = ("slot_name", "device_plugin_name", "devices", "attributes", "formats", "links", "script")
_FORMAT = ("human_readable_name", "description", "display_unit", "display_icon", "number_format")
_IMPLEMENTATIONS = (CUDA, "MockDevice")
_SLOT: Final = (r"[a-z][a-z0-9-]{0,31}", "a lower-case word such as cuda")
_SHOWN: Final = (r"[^\x00-\x1f]{0,1024}", "a line of text")
_MOST: Final = 200
_CUDA_FACTS: Final = {"nvidia_driver": "450.00.00", "cuda_runtime": "11.0"}


def find_files(configured: Sequence[Path]) -> tuple[Path, ...]:
    """Find the files that somebody put there on purpose; the working directory is not searched.

    Raises:
        PluginDisabled: when there is none, naming where it was looked for.
        InvalidConfig: when one is named that is not there.
    """
    named = os.environ.get(VARIABLE)
    if configured or named:
        by = "[plugin.mock]" if configured else f"${VARIABLE}"
        paths = tuple(configured) or (Path(named or "").expanduser(),)
        missing = [f"{by} names {path}, which is not there" for path in paths if not _exists(path)]
        if missing:
            raise InvalidConfig(f"mock: {bullet_list(missing)}", details={"faults": missing})
        return paths
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
    return (found,)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _directories() -> list[Path]:
    home = os.environ.get("XDG_CONFIG_HOME") or (
        f"{os.environ['HOME']}/.config" if os.environ.get("HOME") else ""
    )
    roots = [Path(home)] if home else []
    return [root / name for root in (*roots, Path("/etc")) for name in ("agent-core", "backend.ai")]


def read_file(path: Path) -> Rack:
    """Read the file of one kind of accelerator.

    Raises:
        InvalidConfig: with every fault of the file and its line in ``details.faults``.
    """
    document = Document.read(path)
    rack = _rack(Table(document, (), document.content))
    document.check()
    return rack


def read_script(path: Path, known: Collection[str] | None) -> tuple[Step, ...]:
    """Read a file that holds nothing but a script.

    Args:
        path: The file.
        known: The devices that there are, or None when that is not known.

    Raises:
        InvalidConfig: with every fault of the file and its line in ``details.faults``.
    """
    document = Document.read(path)
    table = Table(document, (), document.content)
    table.only(("script",))
    script = Script(None)
    for each in table.tables("script"):
        script.add(each)
    if known is not None:
        script.check(known)
    document.check()
    return tuple(step for _, step in script.steps)


def _rack(table: Table) -> Rack:
    table.only(_TOP)
    slot = table.text("slot_name", *_SLOT)
    if slot in CORE_SLOTS:
        table.fault("slot_name", f"is {slot!r}, which is the agent's own")
    usual = CUDA if slot == "cuda" else "MockDevice"
    implementation = table.choice("device_plugin_name", _IMPLEMENTATIONS, usual)
    # What follows from a fault is no fault of its own.
    cards = Cards(partitions=implementation == CUDA or not slot)
    if not table.content.get("devices"):
        table.fault("devices", "is not a list of at least one device")
    for each in table.tables("devices"):
        cards.add(each)
    script = Script(cards)
    for each in table.tables("script"):
        script.add(each)
    cards.check()
    script.check(cards.read)
    own = _CUDA_FACTS if implementation == CUDA else {}
    return Rack(
        path=table.document.path,
        slot=slot,
        implementation=implementation,
        cards=tuple(cards.read.values()),
        late=frozenset(script.late),
        attributes={**own, **dict(_attributes(table.table("attributes")))},
        formats=dict(_formats(table.table("formats"), cards)),
        links=_links(table, cards),
        script=tuple(step for _, step in script.steps),
        warnings=tuple(table.document.warnings),
    )


def _attributes(table: Table) -> Iterator[tuple[str, str]]:
    if len(table.content) > _MOST:
        table.fault("", f"has {len(table.content)} attributes; {_MOST} is the most")
    for key, value in table.content.items():
        if isinstance(value, dict | list) or not 0 < len(key) <= 256 or len(str(value)) > 1024:
            table.fault(key, "is not a short text")
        yield key, str(value).lower() if isinstance(value, bool) else str(value)


def _links(table: Table, cards: Cards) -> Links:
    links: dict[frozenset[str], str] = {}
    for each in table.tables("links"):
        each.only(("devices", "kind"))
        devices = connected(each, "devices")
        for device in devices:
            if device not in cards.read:
                hint = meant(device, cards.read)
                each.fault("devices", f"names {device!r}, which is not there{hint}")
        links.update(all_pairs(devices, each.text("kind", *KIND, default=DEFAULT_KIND)))
    return links


def _formats(table: Table, cards: Cards) -> Iterator[tuple[str, SlotFormat]]:
    profiles = {f"{card.profile}-mig" for card in cards.read.values() if card.profile}
    known = ("device", "shares", "*-mig", *sorted(profiles))
    for subtype in table.content:
        each = table.table(subtype)
        each.only(_FORMAT)
        if subtype not in known:
            odd = f"formats.{subtype} is of no slot that there is{meant(subtype, known)}"
            table.document.warn(each.place, odd)
        texts = {key: each.text(key, *_SHOWN, default="") for key in _FORMAT[:-1]}
        yield subtype, SlotFormat(**texts, number_format=_number_format(each))


def _number_format(table: Table) -> NumberFormat:
    numbers = table.table("number_format")
    numbers.only(("binary", "round_length"))
    places = numbers.whole("round_length", least=0, most=18, default=0)
    return NumberFormat(numbers.flag("binary"), places)


def joined(racks: Mapping[Path, Rack]) -> list[str]:
    """Find what several files cannot have together; each fault names both files."""
    slots: dict[str, Path] = {}
    owners: dict[str, Path] = {}
    faults = list[str]()
    for path, rack in racks.items():
        if (other := slots.setdefault(rack.slot, path)) != path:
            faults.append(f"{other} and {path} both have the slot_name {rack.slot!r}")
        for card in rack.cards:
            if (other := owners.setdefault(card.id, path)) != path:
                faults.append(f"{other} and {path} both have the device {card.id!r}")
    return faults
