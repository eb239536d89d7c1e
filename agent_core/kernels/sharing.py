"""Things that several kernels hold: taken and given back by one of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_core.ledger import HoldRow


class Sharing:
    """Keeps a kernel that begins to use a thing apart from one that stops.

    Whether a thing is given back depends on who else holds it, and giving it back takes time: in
    between nobody may take it. Only the kernels that share the thing wait for each other.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, hold: HoldRow) -> AsyncIterator[None]:
        """Be the only one who takes or gives back the thing of a hold."""
        thing = (hold.kind, hold.key)
        lock, waiting = self._locks.get(thing, (asyncio.Lock(), 0))
        self._locks[thing] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(thing)
            if waiting > 1:
                self._locks[thing] = (lock, waiting - 1)
