"""Taking turns: how many kernels are built at once (``[agent] kernel-creation-concurrency``)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Turns:
    """Lets as many go on at once as are allowed; the others wait in the order they came.

    Attributes:
        taken: How many go on.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    def allow(self, most: int | None) -> None:
        """Allow another number from now on; None is without limit. Who goes on is not stopped."""
        self._most = most
        self._call()

    @asynccontextmanager
    async def one(self, ending: asyncio.Future[Any]) -> AsyncIterator[None]:
        """Wait for a turn and hold it; where the end is asked for first, go on without one."""
        mine = await self._await_turn(ending)
        try:
            yield
        finally:
            if mine:
                self.taken -= 1
                self._call()

    async def _await_turn(self, ending: asyncio.Future[Any]) -> bool:
        if self._has_room() and not self._waiting:
            self.taken += 1
            return True
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait({turn, ending}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done():
                self.taken -= 1
            else:
                turn.cancel()
            self._call()
            raise
        if not turn.done():
            turn.cancel()
            return False
        return True

    def _has_room(self) -> bool:
        return self._most is None or self.taken < self._most

    def _call(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.taken += 1
