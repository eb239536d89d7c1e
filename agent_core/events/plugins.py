"""Events of plugins: what has become of those that hang and crash, told once and kept."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import structlog

from agent_core import clock
from agent_core.contracts.errors import LedgerFailed
from agent_core.events.bus import EventBus
from agent_core.host.states import PluginState
from agent_core.host.supervisor import LoadedPlugin
from agent_core.ledger import Commit, EventRow, Ledger
from agent_core.wire.events import PLUGIN_DOWN, PLUGIN_QUARANTINED, PLUGIN_READY, EventKind

log = structlog.get_logger(__name__)

CHANGED: Final = Commit("plugin-changed", "a plugin is down, quarantined or ready again")

_QUIET = 120.0
"""Seconds after one death in which further deaths of the same plugin are not told."""

_RETRY = 5.0


@dataclass(slots=True)
class _Told:
    """What was told of one plugin last, and why it was not called."""

    kind: EventKind = PLUGIN_READY
    reason: str = ""
    died: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _News:
    kind: EventKind
    at: float
    data: dict[str, str]


class PluginEvents:
    """Turns the changes of plugins into durable events.

    Args:
        quiet: Seconds after one death in which further deaths of the same plugin are not told, so
            that a crash loop is three events: down, ready, quarantined.
    """

    def __init__(self, quiet: float = _QUIET) -> None:
        self._quiet = quiet
        self._told: dict[tuple[str, str], _Told] = {}
        self._news: asyncio.Queue[_News] = asyncio.Queue()

    def changed(self, plugin: LoadedPlugin) -> None:
        """Take a change of a plugin's state; most are not worth an event."""
        record = plugin.record
        told = self._told.setdefault((record.kind, record.name), _Told())
        kind = self._worth_telling(plugin, told)
        if kind is None:
            return
        told.kind, told.reason = kind, record.reason or told.reason
        data = {"plugin": record.name, "kind": record.kind, "reason": told.reason}
        self._news.put_nowait(_News(kind, clock.wall(), data))

    def _worth_telling(self, plugin: LoadedPlugin, told: _Told) -> EventKind | None:
        state, now = plugin.record.state, time.monotonic()
        if state is PluginState.QUARANTINED:
            return PLUGIN_QUARANTINED if told.kind is not PLUGIN_QUARANTINED else None
        if state is PluginState.READY:
            return PLUGIN_READY if told.kind is not PLUGIN_READY else None
        if not plugin.is_down or told.kind is not PLUGIN_READY or now - told.died < self._quiet:
            return None
        told.died = now
        return PLUGIN_DOWN

    async def follow(self, ledger: Ledger, bus: EventBus) -> None:
        """Write, for ever, what has changed, and tell of it; what cannot be written is retried."""
        while True:
            news = await self._news.get()
            while (event := await _written(ledger, news)) is None:  # noqa: ASYNC110 - nobody tells when a disk has room again
                await asyncio.sleep(_RETRY)
            bus.published([event])


async def _written(ledger: Ledger, news: _News) -> EventRow | None:
    try:
        return await ledger.write(
            CHANGED, lambda tx: tx.add_event(news.kind.name, news.at, data=news.data)
        )
    except LedgerFailed as exc:
        log.warning("an event cannot be written", name=news.kind.name, error=exc.message)
        return None
