"""The bay: what is plugged in now, by the files and by the scripts that are played.

Each device that was once there is remembered: one that has gone is `LOST` until the plugin is
opened anew, as a card that was pulled out of a node is. Where an edit has no effect, all devices of
its file are `DEGRADED` with that as their evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

from accel_mock.kind import Kind
from accel_mock.model import Card
from accel_mock.script import Scene, play
from accel_mock.watch import Watch, is_masked
from agent_core.contracts.device import Health
from agent_core.contracts.inventory import MAX_DEVICES

_MAX_EVIDENCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Placed:
    """One device as it is now."""

    kind: Kind
    card: Card
    health: Health
    evidence: str
    links: Mapping[str, str] = field(default_factory=dict)


class Bay:
    """The devices of some files.

    Args:
        watch: The files.
        seed: Of the times that scripts draw.
    """

    def __init__(self, watch: Watch, seed: int) -> None:
        self._watch = watch
        self._seed = seed
        self._known: dict[str, Placed] = {}
        self._scene: Scene | None = None
        self._placed: tuple[Placed, ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of accelerators, in the order of their files."""
        return self._watch.stock.kinds

    def look(self, seconds: float) -> tuple[Placed, ...]:
        """Say what is there so long after the opening; the very same answer when nothing changed.

        Args:
            seconds: Since the plugin was opened.
        """
        changed = self._watch.changed()
        scene = self._play(seconds)
        if changed or scene != self._scene:
            self._scene = scene
            present = {placed.card.id: placed for placed in self._present(scene)}
            gone = {i: self._lost(p) for i, p in self._known.items() if i not in present}
            # More than a node can have would be refused as a whole; what has gone goes first.
            self._known = dict(islice({**present, **gone}.items(), MAX_DEVICES))
            self._placed = tuple(self._known.values())
        return self._placed

    def _play(self, seconds: float) -> Scene:
        late = frozenset(chain.from_iterable(kind.rack.late for kind in self.kinds))
        return play(self._watch.stock.script, late, seconds, self._seed)

    def _present(self, scene: Scene) -> Iterator[Placed]:
        plugged = {
            card.id: (kind, card)
            for kind in self.kinds
            for card in kind.rack.cards
            if card.id not in scene.absent and not is_masked(kind, card)
        }
        links = self._links(scene, plugged)
        troubles = {kind.slot: self._watch.trouble(kind) for kind in self.kinds}
        for device, (kind, card) in plugged.items():
            health, why = scene.health.get(device, (card.health, card.evidence))
            if troubles[kind.slot] and health is Health.HEALTHY:
                health, why = Health.DEGRADED, troubles[kind.slot]
            yield Placed(kind, card, health, why, links.get(device, {}))

    def _links(self, scene: Scene, plugged: Mapping[str, object]) -> dict[str, dict[str, str]]:
        made = {pair: name for kind in self.kinds for pair, name in kind.rack.links.items()}
        found: dict[str, dict[str, str]] = {}
        for pair, name in {**made, **scene.links}.items():
            if name and pair <= plugged.keys():
                one, other = sorted(pair)
                found.setdefault(one, {})[other] = name
                found.setdefault(other, {})[one] = name
        return found

    def _lost(self, placed: Placed) -> Placed:
        now = next((kind for kind in self.kinds if kind.slot == placed.kind.slot), placed.kind)
        in_file = any(card.id == placed.card.id for card in now.rack.cards)
        why = "its script has unplugged it" if in_file else f"it is not in {now.rack.path} any more"
        return Placed(now, placed.card, Health.LOST, why[:_MAX_EVIDENCE])
