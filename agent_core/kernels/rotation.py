"""Which port is given next: the one that has been free for the longest time. Pure."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

FOREIGN_PAUSE: Final = 10.0
"""Seconds before a port that somebody else listens on is looked at again."""


class Rotation:
    """The ports of a range: free in their order, held by somebody, or used by strangers.

    A port that is given back goes to the end of the row, and is given again only after the
    cooldown. What a take costs depends on the number of ports that it takes, and on nothing else.

    Args:
        ports: The range.
        cooldown: Seconds that a port rests once it is given back.
        first: The port that is given first; by default the first of the range.
    """

    def __init__(self, ports: range, cooldown: float, first: int | None = None) -> None:
        start = ports.index(first) if first is not None else 0
        order = [*ports[start:], *ports[:start]]
        self._ports = ports
        self._cooldown = cooldown
        # For each port the time from which it may be given; the earliest comes first.
        self._free = OrderedDict.fromkeys(order, float("-inf"))
        self._foreign: OrderedDict[int, float] = OrderedDict()
        self._held: dict[int, str] = {}

    @property
    def held(self) -> Mapping[int, str]:
        """For each port that is held, its holder."""
        return MappingProxyType(self._held)

    @property
    def foreign(self) -> tuple[int, ...]:
        """The ports that somebody else was seen to use, the earliest seen first."""
        return tuple(self._foreign)

    def cooling(self, now: float) -> int:
        """Count the ports that were given back a short while ago."""
        rested = 0
        for due in self._free.values():
            if due > now:
                break
            rested += 1
        return len(self._free) - rested

    def wait(self, count: int, now: float) -> float | None:
        """Say in how many seconds so many ports may be there; None while they cannot be."""
        if not count:
            return 0.0
        dues = heapq.merge(self._free.values(), self._foreign.values())
        due = next(islice(dues, count - 1, None), None)
        return None if due is None else max(0.0, due - now)

    def take(
        self, holder: str, count: int, now: float, usable: Callable[[int], bool]
    ) -> tuple[int, ...] | None:
        """Give a holder so many ports, or none at all and None.

        Args:
            holder: Who gets them.
            count: How many.
            now: The time.
            usable: Says of one port whether it can be used; one that cannot is passed over, and
                not looked at again for a while. What it raises is raised, and nothing is taken.
        """
        found: list[int] = []
        try:
            while len(found) < count and (port := self._next(now)) is not None:
                found.append(port)
                if not usable(port):
                    self._foreign[found.pop()] = now + FOREIGN_PAUSE
        except BaseException:
            self._put_back(found)
            raise
        if len(found) < count:
            self._put_back(found)
            return None
        self._held.update(dict.fromkeys(found, holder))
        return tuple(found)

    def restore(self, holder: str, port: int) -> None:
        """Take a port for whoever holds it already; it may lie outside of the range.

        Raises:
            ValueError: when another holds it; nothing changed.
        """
        if self._held.get(port, holder) != holder:
            raise ValueError(f"port {port} is held by {self._held[port]}")
        self._free.pop(port, None)
        self._foreign.pop(port, None)
        self._held[port] = holder

    def release(self, holder: str, port: int, now: float) -> bool:
        """Take a port back from its holder; False when it was not the holder's, or is no more."""
        if self._held.get(port) != holder:
            return False
        del self._held[port]
        if port in self._ports:
            self._free[port] = now + self._cooldown
        return True

    def _next(self, now: float) -> int | None:
        for queue in (self._free, self._foreign):
            port, due = next(iter(queue.items()), (0, float("inf")))
            if due <= now:
                del queue[port]
                return port
        return None

    def _put_back(self, ports: list[int]) -> None:
        """Put ports that nobody has used back to where they were."""
        for port in reversed(ports):
            self._free[port] = float("-inf")
            self._free.move_to_end(port, last=False)
