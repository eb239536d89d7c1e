"""Watching events: the outbox is the queue; a slow watcher costs no memory and misses nothing."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

import structlog

from agent_core import clock
from agent_core.contracts.errors import InvalidArgument
from agent_core.ledger import EventRow, Ledger
from agent_core.wire.models import EventItem

log = structlog.get_logger(__name__)

_PAGE = 500
_SEQUENCE_DIGITS = 18
_PROGRESS_KEPT = 256
"""Progress that a watcher has not taken yet; older items are dropped: they are not durable."""


class _Progress(NamedTuple):
    """What was told; it becomes an item only where somebody watches."""

    name: str
    at: float
    kernel_id: str
    session_id: str
    data: Mapping[str, Any]

    def item(self) -> EventItem:
        return EventItem(
            id=None,
            name=self.name,
            at=self.at,
            kernel_id=self.kernel_id,
            session_id=self.session_id,
            data=dict(self.data),
        )


class _Watcher:
    """What one watcher waits for: a wake-up for durable events, and progress itself."""

    __slots__ = ("kernel_id", "progress", "wants_progress", "woken")

    def __init__(self, kernel_id: str | None, *, wants_progress: bool) -> None:
        self.kernel_id = kernel_id
        self.wants_progress = wants_progress
        self.progress: deque[_Progress] = deque(maxlen=_PROGRESS_KEPT)
        self.woken = asyncio.Event()

    def concerns(self, kernel_id: str | None) -> bool:
        return self.kernel_id is None or self.kernel_id == kernel_id


class EventBus:
    """The agent's events to whoever watches.

    Args:
        ledger: Where durable events are kept.
        log_events: Whether each durable event is logged as well (``[debug] log-events``).

    Durable events are published after their transaction is committed and are read from the ledger
    by each watcher at its own pace. Progress is kept in memory only.
    """

    def __init__(self, ledger: Ledger, *, log_events: bool = False) -> None:
        self._ledger = ledger
        self.log_events = log_events
        self._watchers: set[_Watcher] = set()
        self._unsettled: dict[str, deque[_Progress]] = {}

    def published(self, events: Iterable[EventRow]) -> None:
        """Wake the watchers of events that have just become durable."""
        for event in events:
            if self.log_events:
                log.info(event.name, id=event.id, kernel_id=event.kernel_id, **event.data)
            self.wake(event.kernel_id)

    def wake(self, kernel_id: str | None) -> None:
        """Let watchers look for events of a kernel, where nobody knows whether there are any."""
        for watcher in self._watchers:
            if watcher.concerns(kernel_id):
                watcher.woken.set()

    def progress(self, name: str, kernel_id: str, session_id: str, data: Mapping[str, Any]) -> None:
        """Tell something that is worth seeing but not worth keeping.

        It is remembered until `settled`, for those who begin to watch in the middle.
        """
        item = _Progress(name, clock.wall(), kernel_id, session_id, data)
        told = self._unsettled.get(kernel_id)
        if told is None:
            told = self._unsettled[kernel_id] = deque(maxlen=_PROGRESS_KEPT)
        told.append(item)
        for watcher in self._watchers:
            if watcher.wants_progress and watcher.concerns(kernel_id):
                watcher.progress.append(item)
                watcher.woken.set()

    def settled(self, kernel_id: str) -> None:
        """Forget the progress of something that is complete."""
        self._unsettled.pop(kernel_id, None)

    async def watch(
        self, kernel_id: str | None, *, since: str | None, follow: bool, progress: bool
    ) -> AsyncIterator[EventItem]:
        """Yield retained events after `since`, and with `follow` all that come, for ever.

        Raises:
            InvalidArgument: when `since` is not an event's id.
        """
        position = _sequence(since)
        watcher = _Watcher(kernel_id, wants_progress=progress)
        if progress and kernel_id is not None:
            watcher.progress.extend(self._unsettled.get(kernel_id, ()))
        self._watchers.add(watcher)
        try:
            while True:
                watcher.woken.clear()
                batch = await self._page(kernel_id, position)
                position = batch[-1].sequence if batch else position
                for item in self._in_order(watcher, batch):
                    yield item
                if len(batch) == _PAGE:
                    continue
                if not follow:
                    return
                await watcher.woken.wait()
        finally:
            self._watchers.discard(watcher)

    async def _page(self, kernel_id: str | None, position: int) -> list[EventRow]:
        return await self._ledger.read(lambda tx: tx.events(kernel_id, position, _PAGE))

    def _in_order(self, watcher: _Watcher, batch: list[EventRow]) -> list[EventItem]:
        # Merged, not sorted: a clock that is set back must not change the order of events.
        durable = (_item(event) for event in batch)
        progress = (told.item() for told in watcher.progress)
        items = [*heapq.merge(durable, progress, key=lambda item: item.at)]
        watcher.progress.clear()
        return items


def _item(event: EventRow) -> EventItem:
    return EventItem(
        id=event.id,
        name=event.name,
        at=event.at,
        kernel_id=event.kernel_id,
        session_id=event.session_id,
        data=dict(event.data),
    )


def _sequence(since: str | None) -> int:
    if since is None:
        return 0
    _, _, number = since.rpartition("-")
    if not (number.isascii() and number.isdigit() and len(number) <= _SEQUENCE_DIGITS):
        raise InvalidArgument(
            f"since: {since!r} is not the id of an event",
            hint="Use an id that `agentctl events --json` printed.",
        )
    return int(number)
