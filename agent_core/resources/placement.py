"""Choosing devices for one slot of one kernel: pure arithmetic over whole quanta.

Whatever the strategy prefers, a request is refused only when the devices taken one after the other
in their own order do not hold it; so what `available` says can always be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from agent_core.resources.counters import Room


class Strategy(StrEnum):
    """How a request that does not fit one device is split; both use few devices."""

    FILL = "fill"
    """The emptiest device first, each as far as it goes."""
    EVENLY = "evenly"
    """In equal parts, as far as the devices hold them."""


@dataclass(frozen=True, slots=True)
class Option:
    """One device that offers the slot: where it is and what one quantum draws."""

    device_id: str
    numa_node: int | None
    draws: Mapping[str, int]
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """What is taken of each device, in quanta, and why."""

    quanta: Mapping[str, int]
    reason: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    option: Option
    free: int
    rank: tuple[bool, int]
    order: int


_Plan = list[tuple[Option, int]]


def available(options: Iterable[Option], room: Room) -> int:
    """Count the quanta that one kernel could get of these devices together."""
    branch = room.copy()
    total = 0
    for option in options:
        fits = branch.fits(option.draws)
        branch.take(option.draws, fits)
        total += fits
    return total


def place(
    need: int, options: Sequence[Option], room: Room, strategy: Strategy, near: AbstractSet[int]
) -> Placement | None:
    """Choose devices for `need` quanta and take them from the room.

    Args:
        need: Quanta to place; at least one.
        options: The devices that offer the slot, in their own order.
        room: What is left of the counters; only changed when the answer is not None.
        strategy: How to split what no single device holds.
        near: NUMA nodes that this kernel already uses; tried first.

    Returns:
        The placement, exactly `need` quanta in all, or None when they do not fit.
    """
    if available(options, room) < need:
        return None
    for reason, plan in _plans(need, options, room, strategy, near):
        branch = room.copy()
        taken = _take(need, plan, branch)
        if taken is not None:
            for option, _ in plan:
                room.take(option.draws, taken.get(option.device_id, 0))
            return Placement(taken, reason)
    return None


def _plans(
    need: int, options: Sequence[Option], room: Room, strategy: Strategy, near: AbstractSet[int]
) -> Iterator[tuple[str, _Plan]]:
    """Yield plans from the best to the one that always works."""
    candidates = _candidates(need, options, room, near)
    fitting = [c for c in candidates if c.free >= need]
    if fitting:
        best = min(fitting, key=lambda c: (c.rank if near else c.rank[:1], c.free, c.order))
        yield "the smallest that holds it whole", [(best.option, need)]
    ranked = sorted(candidates, key=lambda c: (c.rank, -c.free, c.order))
    if strategy is Strategy.EVENLY:
        yield "an equal part of the fewest devices", _even(need, ranked)
    yield "the emptiest of the nearest", [(c.option, c.free) for c in ranked]
    yield "in the devices' own order", [(o, need) for o in options]


def _candidates(
    need: int, options: Sequence[Option], room: Room, near: AbstractSet[int]
) -> list[_Candidate]:
    free = [room.fits(option.draws) for option in options]
    ranks = _rank_nodes(need, zip(options, free, strict=True), near)
    return [
        _Candidate(option, fits, (option.degraded, ranks[option.numa_node]), order)
        for order, (option, fits) in enumerate(zip(options, free, strict=True))
        if fits
    ]


def _rank_nodes(
    need: int, free: Iterable[tuple[Option, int]], near: AbstractSet[int]
) -> dict[int | None, int]:
    """Order the NUMA nodes: those in use, then the fullest that holds all, then by what is free."""
    by_node: dict[int | None, int] = {}
    for option, fits in free:
        by_node[option.numa_node] = by_node.get(option.numa_node, 0) + fits

    def preference(node: int | None) -> tuple[bool, bool, int, int]:
        room, holds = by_node[node], by_node[node] >= need
        return (node not in near, not holds, room if holds else -room, -1 if node is None else node)

    return {node: rank for rank, node in enumerate(sorted(by_node, key=preference))}


def _even(need: int, ranked: Sequence[_Candidate]) -> _Plan:
    """Split over the fewest of the ranked devices, each as near to an equal part as it can."""
    chosen: list[_Candidate] = []
    held = 0
    for candidate in ranked:
        if held >= need:
            break
        chosen.append(candidate)
        held += candidate.free
    plan: _Plan = []
    for left, candidate in zip(range(len(chosen), 0, -1), _emptiest_last(chosen), strict=True):
        part = min(candidate.free, -(-need // left))
        plan.append((candidate.option, part))
        need -= part
    return plan


def _emptiest_last(chosen: Sequence[_Candidate]) -> list[_Candidate]:
    return sorted(chosen, key=lambda c: (c.free, c.order))


def _take(need: int, plan: _Plan, room: Room) -> dict[str, int] | None:
    taken: dict[str, int] = {}
    for option, most in plan:
        part = min(need, most, room.fits(option.draws))
        if part:
            room.take(option.draws, part)
            taken[option.device_id] = part
            need -= part
        if not need:
            return taken
    return None
