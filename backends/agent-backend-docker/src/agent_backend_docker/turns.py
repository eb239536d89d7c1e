"""How many things are asked of the engine at once, so that a crowd is served and not refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

PATIENCE: Final = 10.0
"""Seconds after which what still goes on keeps nobody else waiting."""


class Turns:
    """A bounded number at once, first come first served.

    What takes long gives its turn to the next one and goes on: containers that hang delay those
    behind them by that much, and never for good.

    Args:
        most: How many at once.
        patience: Seconds that a turn lasts at the most.
    """

    def __init__(self, most: int, patience: float = PATIENCE) -> None:
        self._free = asyncio.Semaphore(most)
        self._patience = patience

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it meanwhile."""
        await self._free.acquire()
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._patience, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
