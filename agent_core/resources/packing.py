"""Whether several slots fit together at all: the exact answer where preferences fail.

Offers of different devices seldom share a counter, and then taking one after the other is exact.
Where they do (a card, its partitions and its shares; two kinds of shares of one card's memory),
what is taken first may stand in the way of the rest. `pack` then looks at every arrangement: one
group of offers that share counters after the other, keeping of each only what no other choice
betters. Its work is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from agent_core.resources.counters import Room

_WORK: Final = 20_000
"""Arrangements that are looked at before giving up."""


@dataclass(frozen=True, slots=True)
class Option:
    """One device that offers a slot: where it is and what one quantum draws."""

    device_id: str
    numa_node: int | None
    draws: Mapping[str, int]
    degraded: bool = False
    most: int | None = None

    def fits(self, room: Room) -> int:
        """Count the quanta that one kernel could get of it."""
        fits = room.fits(self.draws)
        return fits if self.most is None or fits < self.most else self.most


Wants = Sequence[tuple[int, Sequence[Option]]]
"""For each slot, the quanta needed and the devices that offer it."""


class _Part(NamedTuple):
    slot: int
    option: Option


_Taken: TypeAlias = tuple[tuple[_Part, int], ...]


class _Point(NamedTuple):
    """What some arrangement gives of each slot, never more than is needed, and how."""

    given: tuple[int, ...]
    taken: _Taken


class _WorkDoneError(Exception):
    """Raised when the bound on the work is reached."""


class _Work:
    def __init__(self, most: int) -> None:
        self._left = most

    def count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _WorkDoneError


def apart(options: Iterable[Option]) -> bool:
    """Say whether no two of these draw on one counter."""
    seen: set[str] = set()
    for option in options:
        for counter in option.draws:
            if counter in seen:
                return False
            seen.add(counter)
    return True


def pack(wants: Wants, room: Room, *, work: int = _WORK) -> list[dict[str, int]] | None:
    """Find quanta by device for every slot, exactly as many as are needed, that fit together.

    Returns:
        One map for each slot, or None when nothing fits (or the bound on the work was reached).
    """
    need = tuple(n for n, _ in wants)
    parts = [
        _Part(slot, option)
        for slot, (_, options) in enumerate(wants)
        for option in options
        if option.fits(room)
    ]
    budget = _Work(work)
    reached = [_Point((0,) * len(need), ())]
    try:
        for group in _groups(parts):
            points = _best(_arrangements(group, need, room.copy(), budget))
            reached = _best(_sums(reached, points, need, budget))
    except _WorkDoneError:
        return None
    point = next((p for p in reached if p.given == need), None)
    return None if point is None else _exactly(point, need)


def _groups(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Split into groups that share no counter, in the order of their first part."""
    group_of: dict[str, int] = {}
    groups: dict[int, list[_Part]] = {}
    for number, part in enumerate(parts):
        met = sorted({group_of[c] for c in part.option.draws if c in group_of})
        target = met[0] if met else number
        merged = [p for m in met for p in groups.pop(m)]
        groups[target] = [*merged, part]
        for p in groups[target]:
            group_of.update(dict.fromkeys(p.option.draws, target))
    yield from groups.values()


def _arrangements(
    group: Sequence[_Part], need: tuple[int, ...], room: Room, work: _Work
) -> Iterator[_Point]:
    """Yield every arrangement of a group; of the part with the most choices only the fullest."""
    ordered = sorted(group, key=lambda p: min(p.option.fits(room), need[p.slot]))

    def walk(index: int, left: tuple[int, ...], taken: _Taken) -> Iterator[_Point]:
        work.count()
        if index == len(ordered):
            yield _Point(tuple(n - m for n, m in zip(need, left, strict=True)), taken)
            return
        part = ordered[index]
        most = min(part.option.fits(room), left[part.slot])
        last = index == len(ordered) - 1
        for quanta in range(most, most - 1 if last else -1, -1):
            room.take(part.option.draws, quanta)
            rest = (*left[: part.slot], left[part.slot] - quanta, *left[part.slot + 1 :])
            yield from walk(index + 1, rest, (*taken, (part, quanta)) if quanta else taken)
            room.take(part.option.draws, -quanta)

    return walk(0, need, ())


def _sums(
    reached: Sequence[_Point], points: Sequence[_Point], need: tuple[int, ...], work: _Work
) -> Iterator[_Point]:
    for before in reached:
        for point in points:
            work.count()
            given = tuple(map(min, need, map(sum, zip(before.given, point.given, strict=True))))
            yield _Point(given, before.taken + point.taken)


def _best(points: Iterable[_Point]) -> list[_Point]:
    """Keep the points that no other betters in every slot."""
    first: dict[tuple[int, ...], _Point] = {}
    for point in points:
        first.setdefault(point.given, point)
    kept: list[_Point] = []
    for given in sorted(first, reverse=True):
        if not any(all(map(int.__ge__, k.given, given)) for k in kept):
            kept.append(first[given])
    return kept


def _exactly(point: _Point, need: tuple[int, ...]) -> list[dict[str, int]]:
    """Leave out what is beyond the need: groups that hold the rest may hold too much together."""
    left = list(need)
    found: list[dict[str, int]] = [{} for _ in need]
    for part, quanta in point.taken:
        given = min(quanta, left[part.slot])
        if given:
            found[part.slot][part.option.device_id] = given
            left[part.slot] -= given
    return found
