"""Choosing devices for one slot of one kernel: pure arithmetic over whole quanta.

Whatever the strategy prefers, a request is refused only when no arrangement holds it; so what
`available` says can always be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from agent_core.resources.counters import Room
from agent_core.resources.packing import Option, apart, pack


class Strategy(StrEnum):
    """How a request that does not fit one device is split; both use few devices."""

    FILL = "fill"
    """The emptiest device first, each as far as it goes."""
    EVENLY = "evenly"
    """In equal parts, as far as the devices hold them."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What is taken of each device, in quanta, and why."""

    quanta: Mapping[str, int]
    reason: str


class Candidate(NamedTuple):
    """One device that something is free of, and what it is preferred by."""

    option: Option
    free: int
    rank: tuple[bool, int]
    """Degraded devices last, then the preference among NUMA nodes."""
    slack: int
    """What is free beyond what one kernel may have: less of it is held by others."""
    order: int


_Plan = list[tuple[Option, int]]


def available(options: Sequence[Option], room: Room, *, are_apart: bool | None = None) -> int:
    """Count the quanta that one kernel could get of these devices together.

    Args:
        options: The devices.
        room: What is left of the counters.
        are_apart: Whether no two of them share a counter, where the caller knows.
    """
    fits = [option.fits(room) for option in options]
    if apart(options) if are_apart is None else are_apart:
        return sum(fits)
    branch = room.copy()
    greedy = sum(_take_all(option, branch) for option in options)
    low, high = greedy, sum(fits)
    while low < high:
        middle = (low + high + 1) // 2
        if pack([(middle, options)], room) is None:
            high = middle - 1
        else:
            low = middle
    return low


def _take_all(option: Option, room: Room) -> int:
    fits = option.fits(room)
    room.take(option.draws, fits)
    return fits


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
        The placement, exactly `need` quanta in all, or None when none of the preferred plans
        holds them; `pack` then tells whether any does.
    """
    found = candidates(need, options, room, near)
    if sum(c.free for c in found) < need:
        return None
    for reason, plan in _plans(need, found, strategy, near=bool(near)):
        branch = room.copy()
        taken = _take(need, plan, branch)
        if taken is not None:
            for option, _ in plan:
                if part := taken.get(option.device_id):
                    room.take(option.draws, part)
            return Placement(taken, reason)
    return None


def candidates(
    need: int, options: Sequence[Option], room: Room, near: AbstractSet[int]
) -> list[Candidate]:
    """List the devices that something is free of, with what they are preferred by."""
    free = [room.fits(option.draws) for option in options]
    ranks = _rank_nodes(need, zip(options, free, strict=True), near)
    return [
        Candidate(
            option,
            fits if option.most is None or fits <= option.most else option.most,
            (option.degraded, ranks[option.numa_node]),
            0 if option.most is None or fits <= option.most else fits - option.most,
            order,
        )
        for order, (option, fits) in enumerate(zip(options, free, strict=True))
        if fits
    ]


def ranked(found: Iterable[Candidate]) -> list[Candidate]:
    """Order candidates as a request that no single one holds prefers them."""
    return sorted(found, key=lambda c: (c.rank, -c.free, -c.slack, c.order))


def _plans(
    need: int, found: Sequence[Candidate], strategy: Strategy, *, near: bool
) -> Iterator[tuple[str, _Plan]]:
    """Yield plans from the best to the plainest."""
    fitting = [c for c in found if c.free >= need]
    if fitting:
        if near:
            best = min(fitting, key=lambda c: (c.rank, c.free, -c.slack, c.order))
        else:
            best = min(fitting, key=lambda c: (c.rank[0], c.free, -c.slack, c.order))
        yield "the smallest that holds it whole", [(best.option, need)]
    in_order = ranked(found)
    if strategy is Strategy.EVENLY:
        yield "an equal part of the fewest devices", _even(need, in_order)
    yield "the emptiest of the nearest", [(c.option, c.free) for c in in_order]
    yield "in the devices' own order", [(c.option, c.free) for c in found]


def _rank_nodes(
    need: int, free: Iterable[tuple[Option, int]], near: AbstractSet[int]
) -> dict[int | None, int]:
    """Order the NUMA nodes: those in use, then the fullest that holds all, then by what is free."""
    by_node: dict[int | None, int] = {}
    for option, fits in free:
        most = option.most
        part = fits if most is None or fits < most else most
        by_node[option.numa_node] = by_node.get(option.numa_node, 0) + part

    def preference(node: int | None) -> tuple[bool, bool, int, int]:
        room, holds = by_node[node], by_node[node] >= need
        return (node not in near, not holds, room if holds else -room, -1 if node is None else node)

    return {node: rank for rank, node in enumerate(sorted(by_node, key=preference))}


def _even(need: int, in_order: Sequence[Candidate]) -> _Plan:
    """Split over the fewest of the ranked devices, each as near to an equal part as it can."""
    chosen: list[Candidate] = []
    held = 0
    for candidate in in_order:
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


def _emptiest_last(chosen: Sequence[Candidate]) -> list[Candidate]:
    return sorted(chosen, key=lambda c: (c.free, c.order))


def _take(need: int, plan: _Plan, room: Room) -> dict[str, int] | None:
    taken: dict[str, int] = {}
    for option, most in plan:
        part = min(need, most, option.fits(room))
        if part:
            room.take(option.draws, part)
            taken[option.device_id] = part
            need -= part
        if not need:
            return taken
    return None
