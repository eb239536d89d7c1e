"""One connected client as the server knows it: its role, its calls, and what waits to reach it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent_core.server.transport import Delivery, Transport
from agent_core.wire.frames import encode_credit
from agent_core.wire.methods import Role

if TYPE_CHECKING:
    from agent_core.server.calls import Call

_RECENT: Final = 256
"""How many ids of requests are remembered, to answer a repeated one only once."""

_MAX_BACKLOG: Final = 8 << 20
"""Bytes that wait for a client that does not read, before it counts as gone."""

_FLUSH_INTERVAL: Final = 0.02
"""Seconds between two attempts to reach a client that does not read."""


class Peer:
    """One client: frames are sent to it in order, and those that it does not read are bounded.

    Attributes:
        role: What it may do.
        calls: Its requests in flight, by id.
        gone: Whether it went away; nothing is sent any more.
        idle_sweeps: How many sweeps of the server found it silent and without calls.
    """

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_flush",
        "_identity",
        "_lost",
        "_recent",
        "_recent_order",
        "_transport",
        "calls",
        "gone",
        "idle_sweeps",
        "role",
    )

    def __init__(
        self, transport: Transport, identity: bytes, role: Role, lost: Callable[[Peer], None]
    ) -> None:
        self.role = role
        self.calls: dict[int, Call] = {}
        self.gone = False
        self.idle_sweeps = 0
        self._transport = transport
        self._identity = identity
        self._lost = lost
        self._recent: set[int] = set()
        self._recent_order: deque[int] = deque()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._flush: asyncio.TimerHandle | None = None

    @property
    def congested(self) -> bool:
        """Whether it reads too slowly; streams then wait."""
        return bool(self._backlog)

    def repeats(self, request_id: int) -> bool:
        """Remember the id of a request; True when it was already seen."""
        if request_id in self._recent or request_id in self.calls:
            return True
        self._recent.add(request_id)
        self._recent_order.append(request_id)
        if len(self._recent_order) > _RECENT:
            self._recent.discard(self._recent_order.popleft())
        return False

    def send(self, data: bytes) -> None:
        """Send a frame, or keep it until the client reads."""
        if self.gone:
            return
        if not self._backlog:
            delivery = self._transport.send(self._identity, data)
            if delivery is Delivery.SENT:
                return
            if delivery is Delivery.GONE:
                self._go()
                return
        self._keep(data)

    def probe(self) -> None:
        """Find out whether the client is still there; costs it nothing."""
        request_id = next(iter(self.calls))
        if self._transport.send(self._identity, encode_credit(request_id, 0)) is Delivery.GONE:
            self._go()

    def dismiss(self) -> None:
        """Send nothing any more, and drop what was kept."""
        self.gone = True
        self._backlog.clear()
        self._backlog_bytes = 0
        if self._flush is not None:
            self._flush.cancel()

    def _keep(self, data: bytes) -> None:
        self._backlog.append(data)
        self._backlog_bytes += len(data)
        if self._backlog_bytes > _MAX_BACKLOG:
            self._go()
        elif len(self._backlog) == 1:
            self._flush_later()

    def _flush_later(self) -> None:
        self._flush = asyncio.get_running_loop().call_later(_FLUSH_INTERVAL, self._flush_now)

    def _flush_now(self) -> None:
        """Send what was kept, as far as the client reads, and let its streams go on."""
        while self._backlog:
            delivery = self._transport.send(self._identity, self._backlog[0])
            if delivery is Delivery.FULL:
                self._flush_later()
                return
            if delivery is Delivery.GONE:
                self._go()
                return
            self._backlog_bytes -= len(self._backlog.popleft())
        for call in list(self.calls.values()):
            call.wake()

    def _go(self) -> None:
        self.dismiss()
        self._lost(self)
