"""Noticing that containers end: told by the backend, and looked for where that was missed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

import structlog

from agent_core.contracts.backend import BackendEvent
from agent_core.contracts.errors import AgentError
from agent_core.kernels.asking import items
from agent_core.kernels.owners import Owners
from agent_core.kernels.reconciler import Reconciler
from agent_core.kernels.services import Services
from agent_core.kernels.told_ends import ToldEnds

log = structlog.get_logger(__name__)

_SURVEY_PAUSE: Final = 60.0
"""Seconds between two looks at everything that exists, which cost; less for a shorter grace."""


class Watching:
    """Tells owners of containers that have ended; its three loops run side by side."""

    def __init__(self, services: Services, owners: Owners, reconciler: Reconciler) -> None:
        self._services = services
        self._owners = owners
        self._reconciler = reconciler
        self._ends = ToldEnds(services, owners)
        self._cursor: str | None = None
        self._interrupted = asyncio.Event()

    async def follow(self) -> None:
        """Follow the backend's events; after an interruption go on from the last one.

        What happened in between may be told by nobody, so it is looked for.
        """
        try:
            while True:
                await self._follow_on()
        finally:
            self._ends.close()

    async def _follow_on(self) -> None:
        tried = self._cursor
        try:
            await self._follow_once()
            log.warning("the backend's events ended; they are asked for again")
        except AgentError as exc:
            log.warning("the backend's events were interrupted", error=exc.message)
            if self._cursor == tried:  # a position that it does not know any more, perhaps
                self._cursor = None
        except Exception:  # whatever it says, the ends of kernels must be noticed
            log.exception("the backend's events were interrupted")
        await asyncio.sleep(self._services.settings.retry_first)
        self._interrupted.set()

    async def _follow_once(self) -> None:
        stream = self._services.backend.events(self._cursor)
        async with aclosing(items(self._services, stream, "events", endless=True)) as events:
            async for event in events:
                self._told(event)

    def _told(self, event: BackendEvent) -> None:
        if not isinstance(event, BackendEvent):
            log.warning("the backend told something that is no event", told=repr(event)[:200])
            return
        if self._services.settings.log_backend_events:
            log.info("event of the backend", kind=event.kind, container=event.name)
        if event.kind == "exited":
            self._ends.told(event.name, event.exit)
        self._cursor = event.cursor

    async def look(self) -> None:
        """Look at all kernels at once, then from time to time and after interruptions."""
        while True:
            try:
                await self._reconciler.look_at_kernels()
            except Exception:
                log.exception("kernels could not be looked at")
            try:
                async with asyncio.timeout(self._services.settings.look_interval):
                    await self._interrupted.wait()
            except TimeoutError:
                continue
            self._interrupted.clear()

    async def survey(self) -> None:
        """Look for what nobody holds, from time to time; returns where looks are not wanted."""
        settings = self._services.settings
        if settings.look_interval is None:
            return
        pause = max(settings.look_interval, min(_SURVEY_PAUSE, settings.stranger_grace))
        while True:
            try:
                await self._reconciler.strangers.look()
            except AgentError as exc:
                log.warning("what nobody holds is not known", error=exc.message)
            except Exception:
                log.exception("what nobody holds is not known")
            await asyncio.sleep(pause)
