"""Deciding one request over all slots: pure, from the shelves and what is left of the counters."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TypeAlias

from agent_core.contracts.amount import Amount
from agent_core.contracts.info import CORE_SLOTS
from agent_core.resources.counters import Room
from agent_core.resources.packing import pack
from agent_core.resources.placement import Placement, Strategy, available, place
from agent_core.resources.shelf import Shelf, ShelfSlot

ONLY_WAY = "an arrangement that holds the whole request"


@dataclass(frozen=True, slots=True)
class Want:
    """One slot of a request: who offers it, and how many quanta are asked."""

    name: str
    shelf: Shelf
    slot: ShelfSlot
    need: int

    @property
    def asked(self) -> Amount:
        """The amount that is asked."""
        return self.slot.amount(self.need)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided of one slot, and all that it was decided by.

    Attributes:
        want: What was asked.
        placed: What is given, or None when it does not fit.
        near: The NUMA nodes that the kernel used already.
        room: What was left of the counters before this slot.
        strategy: The strategy.
    """

    want: Want
    placed: Placement | None
    near: frozenset[int]
    room: Room
    strategy: Strategy

    @property
    def free(self) -> int:
        """Count the quanta that this kernel could have had."""
        slot = self.want.slot
        return available(slot.options, self.room, are_apart=slot.apart)


Outcomes: TypeAlias = tuple[Outcome, ...]


def in_order(wants: Iterable[Want]) -> list[Want]:
    """Order slots so that what is scarce chooses first, and what is coarse before shares.

    The cores come after the accelerators, and follow them to their NUMA node.
    """
    return sorted(
        wants,
        key=lambda w: (w.name in CORE_SLOTS, len(w.shelf.devices), -w.slot.weight, w.name),
    )


def decide(wants: Sequence[Want], room: Room, strategy: Strategy) -> Outcomes:
    """Place every slot, in this order; those that do not fit have no placement.

    Args:
        wants: What is asked, in the order of `in_order`.
        room: What is left of the counters; it is used up.
        strategy: How to split what no single device holds.
    """
    before = room.copy()
    near: set[int] = set()
    found: list[Outcome] = []
    for want in wants:
        seen = room.copy()
        placed = place(want.need, want.slot.options, room, strategy, near)
        found.append(Outcome(want, placed, frozenset(near), seen, strategy))
        near |= _nodes(want, placed)
    if any(outcome.placed is None for outcome in found) and _entangled(wants):
        return _arranged(found, before) or tuple(found)
    return tuple(found)


def fits(outcomes: Iterable[Outcome]) -> bool:
    """Say whether every slot is placed."""
    return all(outcome.placed is not None for outcome in outcomes)


def _nodes(want: Want, placed: Placement | None) -> AbstractSet[int]:
    devices = [want.shelf.devices[d] for d in placed.quanta] if placed else []
    return {d.numa_node for d in devices if d.numa_node is not None}


def _entangled(wants: Sequence[Want]) -> bool:
    """Say whether an offer draws on a counter of another: only then does the order matter."""
    drawn = Tally(c for want in wants for option in want.slot.options for c in option.draws)
    return any(times > 1 for times in drawn.values())


def _arranged(found: Sequence[Outcome], room: Room) -> Outcomes | None:
    packed = pack([(o.want.need, o.want.slot.options) for o in found], room)
    if packed is None:
        return None
    return tuple(
        replace(outcome, placed=Placement(quanta, ONLY_WAY))
        for outcome, quanta in zip(found, packed, strict=True)
    )
