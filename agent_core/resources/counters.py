"""The counters of the node: how much each holds, and how much of it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent_core.contracts.device import Counter

Draws = Mapping[str, int]


class Counters:
    """Capacity and use of every counter.

    Two plugins may declare one counter: then they share it, and exclude each other by arithmetic.
    What is drawn is kept also for a counter that nobody declares any more, so that a device which
    comes back is not given twice.
    """

    def __init__(self) -> None:
        self._declared: dict[str, dict[str, Counter]] = {}
        self._capacity: dict[str, int] = {}
        self._drawn: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def clashes(self, plugin: str, counters: Iterable[Counter]) -> Iterator[tuple[str, Counter]]:
        """Yield the other plugin and its counter wherever both declare one differently."""
        for counter in counters:
            for other, theirs in self._declared.get(counter.id, {}).items():
                if other != plugin and theirs != counter:
                    yield other, theirs

    def declare(self, plugin: str, counters: Iterable[Counter]) -> None:
        """Replace what a plugin declares."""
        self.withdraw(plugin)
        for counter in counters:
            self._declared.setdefault(counter.id, {})[plugin] = counter
            self._capacity[counter.id] = counter.capacity
            self._count(counter.id)

    def withdraw(self, plugin: str) -> None:
        """Forget what a plugin declares; what is drawn stays."""
        for counter in [c for c, by in self._declared.items() if plugin in by]:
            by = self._declared[counter]
            del by[plugin]
            if not by:
                del self._declared[counter], self._capacity[counter], self._left[counter]

    @property
    def capacity(self) -> Mapping[str, int]:
        """How much each counter holds; one that nobody declares is not there."""
        return self._capacity

    @property
    def left(self) -> Mapping[str, int]:
        """How much of each counter is left, kept up to date; never below zero."""
        return self._left

    def plugins(self, counters: Iterable[str]) -> list[str]:
        """List the plugins that declare any of these counters."""
        return sorted({p for counter in counters for p in self._declared.get(counter, ())})

    def draw(self, draws: Draws) -> None:
        """Add to what is drawn."""
        for counter, amount in draws.items():
            self._drawn[counter] = self._drawn.get(counter, 0) + amount
            self._count(counter)

    def undraw(self, draws: Draws) -> None:
        """Take back what `draw` added."""
        for counter, amount in draws.items():
            rest = self._drawn[counter] - amount
            if rest:
                self._drawn[counter] = rest
            else:
                del self._drawn[counter]
            self._count(counter)

    def room(self, counter: str) -> int:
        """Say how much of a counter is left; never below zero."""
        return self._left.get(counter, 0)

    def without(self, draws: Draws) -> Room:
        """Say what would be left if these draws, which stand, were given back."""
        freed = {
            counter: max(0, self._capacity[counter] - self._drawn.get(counter, 0) + amount)
            for counter, amount in draws.items()
            if counter in self._capacity
        }
        return Room(self._left, freed)

    def _count(self, counter: str) -> None:
        capacity = self._capacity.get(counter)
        if capacity is not None:
            self._left[counter] = max(0, capacity - self._drawn.get(counter, 0))


class Room:
    """What is left of the counters while one decision is being made; nothing is drawn yet.

    Args:
        whole: How much of each counter there is to begin with.
        left: What is left of those that were already taken from.
    """

    __slots__ = ("_left", "_whole")

    def __init__(self, whole: Mapping[str, int], left: Mapping[str, int] | None = None) -> None:
        self._whole = whole
        self._left = dict(left) if left else {}

    def copy(self) -> Room:
        """Branch off, to try something."""
        return Room(self._whole, self._left)

    def left(self, counter: str) -> int:
        """Say how much of a counter is left in this decision."""
        left = self._left.get(counter)
        return self._whole.get(counter, 0) if left is None else left

    def fits(self, draws: Draws) -> int:
        """Count how many times these draws still fit."""
        # Asked once for every core of a node in every decision: written for speed.
        left, fits = self._left, -1
        for counter, amount in draws.items():
            have = left.get(counter)
            if have is None:
                have = self._whole.get(counter, 0)
            times = have // amount
            if fits < 0 or times < fits:
                fits = times
        return max(0, fits)

    def take(self, draws: Draws, times: int) -> None:
        """Take these draws so many times."""
        for counter, amount in draws.items():
            self._left[counter] = self.left(counter) - amount * times
