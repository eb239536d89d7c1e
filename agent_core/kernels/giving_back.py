"""Giving back what a kernel holds: its container first, then the rest, and what is dirty again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from agent_core.contracts.backend import ContainerState, ExitStatus, Presence
from agent_core.contracts.errors import AgentError, NotFound
from agent_core.kernels.journal import CLEANED, GONE, Journal
from agent_core.kernels.services import Services
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow, HoldState

log = structlog.get_logger(__name__)

_CONTAINER, _CLAIM, _DEVICE = "container", "claim", "device"
_Tell = Callable[..., None]


class GivingBack:
    """Undoes the holds of one kernel, each by the step of its kind.

    Attributes:
        exit: How the container ended, where that was seen while giving it back.
    """

    def __init__(self, services: Services, steps: Sequence[Step], journal: Journal) -> None:
        self._services = services
        self._by_kind = {step.kind: step for step in steps if step.kind}
        self._journal = journal
        self.exit: ExitStatus | None = None

    async def container(self, tell: _Tell) -> None:
        """Give the container back, however long that takes: nothing else may go before it."""
        pause = self._services.settings.retry_first
        for hold in [h for h in await self._journal.holds() if h.kind == _CONTAINER]:
            while (note := await self._try(hold, tell)) is not None:
                await self._journal.dirty(hold, note)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._services.settings.retry_most)
            await self._journal.drop(GONE, [hold])

    async def rest(self, tell: _Tell) -> tuple[list[HoldRow], list[HoldRow]]:
        """Give everything else back in reverse; return what was given back, and what is dirty."""
        given: list[HoldRow] = []
        dirty: list[HoldRow] = []
        for hold in reversed(await self._journal.holds()):
            note = self._kept(hold, dirty) or await self._try(hold, tell)
            if note is None:
                given.append(hold)
            else:
                dirty.append(replace(hold, state=HoldState.DIRTY, note=note[:500]))
        return given, dirty

    async def leftovers(self) -> None:
        """Try what is dirty again until nothing is left, with growing pauses."""
        pause = self._services.settings.retry_first
        while await self._journal.holds():
            given, _dirty = await self.rest(lambda *_args, **_data: None)
            await self._journal.drop(CLEANED, given)
            self.freed(given)
            if _dirty:
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._services.settings.retry_most)

    def freed(self, holds: Sequence[HoldRow]) -> None:
        """Tell the allocator which claims are free, now that this is durable."""
        for hold in holds:
            if hold.kind == _CLAIM:
                with contextlib.suppress(NotFound):  # it was never restored: nothing to free
                    self._services.allocator.release(hold.key)

    def _kept(self, hold: HoldRow, dirty: Sequence[HoldRow]) -> str | None:
        """A claim stays while its device could not be given back: it is not free."""
        if hold.kind == _CLAIM and any(d.kind == _DEVICE and d.key == hold.key for d in dirty):
            return "its device was not given back"
        return None

    async def _try(self, hold: HoldRow, tell: _Tell) -> str | None:
        """Give one hold back; return None, or why it could not be."""
        step = self._by_kind.get(hold.kind)
        if step is None:
            return f"nothing knows how to give back a {hold.kind!r}"
        tell(step, "giving-back")
        try:
            if hold.kind == _CONTAINER:
                await self._watch_exit(hold)
            await step.give_back(hold)
        except AgentError as exc:
            return self._noted(hold, exc.message)
        except TimeoutError:
            return self._noted(hold, "it passed its deadline")
        except Exception as exc:  # one step's defect must not keep the rest held
            log.exception("giving back failed", kind=hold.kind, key=hold.key)
            return self._noted(hold, f"{type(exc).__name__}: {exc}")
        tell(step, "given-back")
        return None

    def _noted(self, hold: HoldRow, note: str) -> str:
        log.warning("could not give back", kind=hold.kind, key=hold.key, error=note)
        return note

    async def _watch_exit(self, hold: HoldRow) -> None:
        """End the container gently and remember how it ended, before its record is removed."""
        settings, backend = self._services.settings, self._services.backend
        async with asyncio.timeout(settings.stop_grace + settings.call_timeout):
            await backend.stop(hold.key, settings.stop_grace)
            status: Any = await backend.inspect(hold.key)
            # A log that cannot be read must not keep a device held.
            with contextlib.suppress(AgentError):
                await self._services.logs.collect(backend, hold.key, hold.kernel_id)
        if status.presence is Presence.PRESENT and status.state is ContainerState.EXITED:
            self.exit = status.exit
