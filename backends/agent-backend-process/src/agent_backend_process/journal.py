"""What happened to the containers, for subscribers that come and go with a cursor.

A cursor is an epoch, made anew at each start of the agent, and a number counting from it. After a
restart the journal begins with what is found, so that a cursor of an earlier epoch, which means
nothing now, is answered from the beginning: an exit may be told twice and is never lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from agent_core.contracts.backend import BackendEvent, ExitStatus

_REMOVED_KEPT = 1024


class Journal:
    """Events in order; those of removed containers are dropped when there are too many."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._number = 0
        self._events: dict[int, BackendEvent] = {}
        self._by_name: dict[str, list[int]] = {}
        self._removed: deque[int] = deque()
        self._pulse = asyncio.Event()
        self._closed = False

    def publish(self, kind: str, name: str, status: ExitStatus | None = None) -> None:
        """Append an event; a kind that a container has had already is not told again."""
        numbers = self._by_name.setdefault(name, [])
        if any(self._events[number].kind == kind for number in numbers):
            return
        self._number += 1
        self._events[self._number] = BackendEvent(self._cursor(self._number), kind, name, status)
        numbers.append(self._number)
        self._wake()

    def forget(self, name: str) -> None:
        """Say that a container was removed; its events stay for a while, for slow subscribers."""
        self._removed.extend(self._by_name.pop(name, ()))
        while len(self._removed) > _REMOVED_KEPT:
            del self._events[self._removed.popleft()]

    def close(self) -> None:
        """End all subscriptions."""
        self._closed = True
        self._wake()

    async def read(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        """Yield events after the cursor, and those to come."""
        seen = self._number if cursor is None else self._position(cursor)
        while True:
            pulse = self._pulse
            for number in [n for n in self._events if n > seen]:
                seen = number
                if number in self._events:
                    yield self._events[number]
            if self._closed:
                return
            if seen >= self._number:
                await pulse.wait()

    def _wake(self) -> None:
        self._pulse.set()
        self._pulse = asyncio.Event()

    def _cursor(self, number: int) -> str:
        return f"{self._epoch:020d}.{number:012d}"

    def _position(self, cursor: str) -> int:
        epoch, _, number = cursor.partition(".")
        known = epoch == f"{self._epoch:020d}" and number.isdigit()
        return int(number) if known else 0
