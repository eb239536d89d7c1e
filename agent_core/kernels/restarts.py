"""Who has asked for a restart of one kernel, and waits to hear whether it is recorded."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_core.contracts.errors import AgentError


class Restarts:
    """The callers of a restart; all who ask at the same time get one and the same."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._callers: list[asyncio.Future[None]] = []

    async def ask(self) -> None:
        """Ask for one; returns once it is accepted.

        Raises:
            AgentError: what it was refused with.
        """
        caller: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        self._wanted.set()
        await caller

    async def asked(self, ending: asyncio.Future[Any]) -> None:
        """Wait until one is asked for, or the kernel is to end."""
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait({wanted, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()

    def accept(self) -> None:
        """Tell all who have asked that it is recorded."""
        for caller in self._answered():
            caller.set_result(None)

    def refuse(self, error: AgentError) -> None:
        """Tell all who have asked why it will not be."""
        for caller in self._answered():
            caller.set_exception(error)

    def _answered(self) -> list[asyncio.Future[None]]:
        callers, self._callers = self._callers, []
        self._wanted.clear()
        return [caller for caller in callers if not caller.done()]
