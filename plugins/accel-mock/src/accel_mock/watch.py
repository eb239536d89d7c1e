"""The files as they are now: read together at first, and again when one of them has changed.

An edit with faults leaves everything as it was, and is kept in mind as the trouble of its file.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Final

from accel_mock.document import Signature, refusal, signature
from accel_mock.file import joined, read_file, read_script
from accel_mock.kind import Kind
from accel_mock.model import Card, Rack, Step, Verb
from accel_mock.settings import Settings
from agent_core.contracts.errors import InvalidConfig
from agent_core.contracts.inventory import MAX_DEVICES

_MAX_LINKS: Final = 256
_MAX_TROUBLE: Final = 800

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stock:
    """What the files say, checked together.

    Attributes:
        kinds: The kinds of accelerators, in the order of their files.
        script: The scripts of all files, one after the other.
    """

    kinds: tuple[Kind, ...] = ()
    script: tuple[Step, ...] = ()


class Watch:
    """The files of one plugin.

    Args:
        files: The files with the devices.
        settings: The plugin's section.

    Attributes:
        stock: What they said when they were last without faults.

    Raises:
        InvalidConfig: when a file has faults, or two of them do not go together.
    """

    def __init__(self, files: Sequence[Path], settings: Settings) -> None:
        self._settings = settings
        self._files = tuple(files)
        self._racks: dict[Path, Rack] = {}
        self._troubles: dict[Path, str] = {}
        self._seen = self._signatures()
        self.stock = self._read(self._seen.keys())
        for warning in idle_masks(self.stock.kinds):
            _log.warning("mock: %s", warning)

    def trouble(self, kind: Kind) -> str:
        """Say why the last edit of a kind's file, or of the script, has no effect."""
        for path in (kind.rack.path, self._settings.script):
            if path in self._troubles:
                return f"an edit has no effect: {self._troubles[path]}"
        return ""

    def changed(self) -> bool:
        """Read again what has changed; says whether anything has."""
        seen = self._signatures()
        stale = {path for path in seen if seen[path] != self._seen[path]}
        if not stale:
            return False
        self._seen = seen
        stale |= self._troubles.keys()
        try:
            self.stock = self._read(stale)
        except InvalidConfig as exc:
            faults = exc.details["faults"]
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            self._troubles = dict.fromkeys(stale, f"{faults[0][:_MAX_TROUBLE]}{more}")
            _log.warning("mock: an edit has no effect, what was there before stands: %s", exc)
        else:
            self._troubles = {}
        return True

    def _signatures(self) -> dict[Path, Signature]:
        script = self._settings.script
        return {path: signature(path) for path in (*self._files, *([script] if script else []))}

    def _read(self, stale: AbstractSet[Path]) -> Stock:
        racks, faults = dict(self._racks), list[str]()
        for path in self._files:
            try:
                if path in stale:
                    racks[path] = read_file(path)
            except InvalidConfig as exc:
                faults += exc.details["faults"]
        script = self._read_script(racks, faults)
        faults += [] if faults else self._faults(racks, script)
        if faults:
            raise refusal(faults)
        for path in racks.keys() & stale:
            for warning in racks[path].warnings:
                _log.warning("mock: %s", warning)
        self._racks = racks
        return self._stock(racks, script)

    def _read_script(self, racks: Mapping[Path, Rack], faults: list[str]) -> tuple[Step, ...]:
        """Read it again whatever has changed: it is about the devices of all files."""
        if self._settings.script is None:
            return ()
        try:
            # What devices there are is not known while a file of theirs has faults.
            return read_script(self._settings.script, None if faults else _devices(racks))
        except InvalidConfig as exc:
            faults += exc.details["faults"]
            return ()

    def _stock(self, racks: Mapping[Path, Rack], script: Sequence[Step]) -> Stock:
        kinds = [
            Kind(rack, self._settings.of_kind(rack.slot), number)
            for number, rack in enumerate(racks.values())
        ]
        steps = chain.from_iterable(rack.script for rack in racks.values())
        return Stock(tuple(kinds), (*steps, *script))

    def _faults(self, racks: Mapping[Path, Rack], script: Sequence[Step]) -> Iterator[str]:
        yield from joined(racks)
        count = len(_devices(racks))
        if count > MAX_DEVICES:
            yield f"{count} devices in all; a node has at most {MAX_DEVICES}"
        stock = self._stock(racks, script)
        yield from _too_linked(stock)
        for kind in stock.kinds:
            if kind.dealing.shares:
                yield from _too_small(kind)


def _devices(racks: Mapping[Path, Rack]) -> set[str]:
    return {card.id for rack in racks.values() for card in rack.cards}


def is_masked(kind: Kind, card: Card) -> bool:
    """Tell whether a device is left out, by its own id or its mother's."""
    return any(_names(glob, card) for glob in kind.dealing.mask)


def idle_masks(kinds: Sequence[Kind]) -> Iterator[str]:
    """Say for each mask that leaves no device out what it is."""
    for glob in sorted({glob for kind in kinds for glob in kind.dealing.mask}):
        masked = (kind.rack.cards for kind in kinds if glob in kind.dealing.mask)
        if not any(_names(glob, card) for card in chain.from_iterable(masked)):
            yield f"device-mask {glob!r} matches no device"


def _names(glob: str, card: Card) -> bool:
    return fnmatchcase(card.id, glob) or fnmatchcase(card.mother, glob)


def _too_linked(stock: Stock) -> Iterator[str]:
    made = Counter(device for kind in stock.kinds for pair in kind.rack.links for device in pair)
    for step in stock.script:
        if step.verb is Verb.LINK:
            made.update(dict.fromkeys(step.devices, len(step.devices) - 1))
    for device, links in made.items():
        if links > _MAX_LINKS:
            yield f"device {device} has {links} links; {_MAX_LINKS} is the most"


def _too_small(kind: Kind) -> Iterator[str]:
    for card in kind.rack.cards:
        if not card.profile and not kind.quanta(card):
            yield f"device {card.id} makes less than one share of {kind.dealing.quantum}"
