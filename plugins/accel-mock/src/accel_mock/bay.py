"""The bay: what is plugged in now. Files are read again when they change, scripts are played.

Each device that was once there is remembered: one that has gone is `LOST` until the plugin is
opened anew, as a card that was pulled out of a node is. An edit with faults changes nothing; it is
told as the reason why all devices of its file are `DEGRADED`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from accel_mock.document import Signature, signature
from accel_mock.file import joined, read_file, read_script
from accel_mock.kind import Kind
from accel_mock.model import Card, Rack, Step
from accel_mock.script import Scene, play
from accel_mock.settings import Settings
from agent_core.contracts.device import Health
from agent_core.contracts.errors import InvalidConfig, bullet_list
from agent_core.contracts.inventory import MAX_DEVICES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """One device as it is now."""

    kind: Kind
    card: Card
    health: Health
    evidence: str
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Stock:
    """What the files say, checked together."""

    kinds: tuple[Kind, ...] = ()
    script: tuple[Step, ...] = ()


class Bay:
    """The devices of some files.

    Args:
        files: The files with the devices.
        settings: The plugin's section.

    Raises:
        InvalidConfig: when a file has faults, or two of them do not go together.
    """

    def __init__(self, files: Sequence[Path], settings: Settings) -> None:
        self._settings = settings
        self._files = tuple(files)
        self._racks: dict[Path, Rack] = {}
        self._seen = self._signatures()
        self._stock = self._read(self._seen)
        self._troubles: dict[Path, str] = {}
        self._known: dict[str, Placed] = {}
        self._scene: Scene | None = None
        self._placed: tuple[Placed, ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of accelerators, in the order of their files."""
        return self._stock.kinds

    def look(self, seconds: float) -> tuple[Placed, ...]:
        """Say what is there so long after the opening; the very same answer when nothing changed.

        Args:
            seconds: Since the plugin was opened.
        """
        changed = self._reread()
        scene = self._play(seconds)
        if changed or scene != self._scene:
            self._scene = scene
            present = {placed.card.id: placed for placed in self._present(scene)}
            gone = {i: self._lost(p) for i, p in self._known.items() if i not in present}
            self._known = {**present, **gone}
            self._placed = tuple(self._known.values())
        return self._placed

    # ---- the files -----------------------------------------------------------------------------

    def _signatures(self) -> dict[Path, Signature]:
        script = self._settings.script
        return {path: signature(path) for path in (*self._files, *([script] if script else []))}

    def _reread(self) -> bool:
        """Read again what has changed; says whether anything has."""
        seen = self._signatures()
        changed = {path for path in seen if seen[path] != self._seen[path]}
        if not changed:
            return False
        self._seen = seen
        stale = {path: seen[path] for path in changed | self._troubles.keys()}
        try:
            self._stock = self._read(stale)
        except InvalidConfig as exc:
            faults = exc.details["faults"]
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            self._troubles = dict.fromkeys(stale, f"{faults[0]}{more}"[:800])
            _log.warning("mock: an edit has no effect, what was there before stands: %s", exc)
        else:
            self._troubles = {}
        return True

    def _read(self, stale: Mapping[Path, Signature]) -> _Stock:
        """Read some files and check them with all others; faults leave everything as it was."""
        racks, faults = dict(self._racks), list[str]()
        script = self._stock.script if hasattr(self, "_stock") else ()
        for path in stale:
            try:
                if path == self._settings.script:
                    script = read_script(path)
                else:
                    racks[path] = read_file(path)
            except InvalidConfig as exc:
                faults += exc.details["faults"]
        if not faults:
            racks = {path: racks[path] for path in self._files}
            faults = list(self._faults(racks, script))
        if faults:
            raise InvalidConfig(
                f"mock: {bullet_list(faults)}",
                hint="Mend every fault listed; no mock accelerator is offered until then.",
                details={"faults": faults},
            )
        self._racks = racks
        stock = _Stock(tuple(self._kinds(racks.values())), script)
        for warning in self._warnings(stock, stale):
            _log.warning("mock: %s", warning)
        return stock

    def _warnings(self, stock: _Stock, stale: Mapping[Path, Signature]) -> Iterator[str]:
        for kind in stock.kinds:
            if kind.rack.path in stale:
                yield from kind.rack.warnings
        if stale.keys() >= {*self._files}:
            yield from idle_masks(stock.kinds)

    def _kinds(self, racks: Iterable[Rack]) -> Iterator[Kind]:
        for number, rack in enumerate(racks):
            yield Kind(rack, self._settings.of_kind(rack.slot), number)

    def _faults(self, racks: Mapping[Path, Rack], script: Sequence[Step]) -> Iterator[str]:
        yield from joined(racks)
        known = {card.id for rack in racks.values() for card in rack.cards}
        if len(known) > MAX_DEVICES:
            yield f"{len(known)} devices in all; a node has at most {MAX_DEVICES}"
        for device in sorted({d for step in script for d in step.devices} - known):
            yield f"{self._settings.script} is about {device!r}, which no file has"
        for kind in self._kinds(racks.values()):
            if kind.dealing.shares:
                yield from _too_small(kind)

    # ---- what is there -------------------------------------------------------------------------

    def _play(self, seconds: float) -> Scene:
        racks = [kind.rack for kind in self.kinds]
        steps = [*chain.from_iterable(rack.script for rack in racks), *self._stock.script]
        late = frozenset(chain.from_iterable(rack.late for rack in racks))
        return play(steps, late, seconds, self._settings.seed)

    def _present(self, scene: Scene) -> Iterator[Placed]:
        links = self._links(scene)
        for kind in self.kinds:
            trouble = self._trouble(kind)
            for card in kind.rack.cards:
                if card.id in scene.absent or is_masked(kind, card):
                    continue
                health, why = scene.health.get(card.id, (card.health, card.evidence))
                if trouble and health is Health.HEALTHY:
                    health, why = Health.DEGRADED, trouble
                yield Placed(kind, card, health, why, links.get(card.id, {}))

    def _links(self, scene: Scene) -> dict[str, dict[str, str]]:
        made = {pair: k for kind in self.kinds for pair, k in kind.rack.links.items()}
        found: dict[str, dict[str, str]] = {}
        for pair, name in {**made, **scene.links}.items():
            if name and not pair & scene.absent:
                one, other = sorted(pair)
                found.setdefault(one, {})[other] = name
                found.setdefault(other, {})[one] = name
        return found

    def _trouble(self, kind: Kind) -> str:
        for path in (kind.rack.path, self._settings.script):
            if path in self._troubles:
                return f"an edit has no effect: {self._troubles[path]}"
        return ""

    def _lost(self, placed: Placed) -> Placed:
        now = next((kind for kind in self.kinds if kind.slot == placed.kind.slot), placed.kind)
        in_file = any(card.id == placed.card.id for card in now.rack.cards)
        why = "its script has unplugged it" if in_file else f"it is not in {now.rack.path} any more"
        return Placed(now, placed.card, Health.LOST, why)


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


def _too_small(kind: Kind) -> Iterator[str]:
    for card in kind.rack.cards:
        if not card.profile and not kind.quanta(card):
            yield f"device {card.id} makes less than one share of {kind.dealing.quantum}"
