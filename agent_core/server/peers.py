"""One connected client as the server knows it: its role, its calls, and what waits to reach it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent_core.server.counters import Counters
from agent_core.server.dispatcher import unauthorized
from agent_core.server.transport import Delivery, Received, Transport
from agent_core.wire.frames import encode_credit
from agent_core.wire.roles import Role

if TYPE_CHECKING:
    from agent_core.server.calls import Call

_RECENT: Final = 256
"""How many ids of requests are remembered, to answer a repeated one only once."""

MAX_BACKLOG: Final = 8 << 20
"""Bytes that wait for a client that does not read, before it counts as gone."""

MAX_BACKLOGS: Final = 64 << 20
"""Bytes that wait for all such clients; whoever needs more then counts as gone."""

_FLUSH_SOON: Final = 0.001
_FLUSH_LATE: Final = 0.064
"""Seconds between attempts to reach a client that does not read: doubled while it does not."""


class Peer:
    """One client: frames are sent to it in order, and those that it does not read are bounded.

    Attributes:
        role: What it may do.
        user_id: The key that it was authenticated by, "" without.
        calls: Its requests in flight, by id.
        gone: Whether it went away; nothing is sent any more.
        idle_sweeps: How many sweeps of the server found it silent and without calls.
    """

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_connection",
        "_counters",
        "_flush",
        "_identity",
        "_lost",
        "_pause",
        "_recent",
        "_recent_order",
        "_role_of",
        "_transport",
        "calls",
        "gone",
        "idle_sweeps",
        "role",
        "user_id",
    )

    def __init__(
        self,
        transport: Transport,
        message: Received,
        role: Role,
        counters: Counters,
        lost: Callable[[Peer], None],
    ) -> None:
        self.role = role
        self.user_id = message.user_id
        self.calls: dict[int, Call] = {}
        self.gone = False
        self.idle_sweeps = 0
        self._transport = transport
        self._identity = message.identity
        self._connection = message.connection()
        self._counters = counters
        self._lost = lost
        self._recent: set[int] = set()
        self._recent_order: deque[int] = deque()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._flush: asyncio.TimerHandle | None = None
        self._pause = _FLUSH_SOON

    @property
    def congested(self) -> bool:
        """Whether it reads too slowly; streams then wait."""
        return bool(self._backlog)

    @property
    def local(self) -> bool:
        """Whether it came by the unix socket."""
        return self._transport.local

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

    def leave(self) -> None:
        """Take it for gone, and end what it had asked for."""
        self._go()

    def review(self) -> None:
        """Look again what it may do: end what it may no longer, or hang up on it."""
        role = self._transport.role_of(self.user_id)
        if role is None:
            self._counters.revoked += 1
            self._hang_up()
            return
        self.role = role
        for call in list(self.calls.values()):
            if call.method.role > role:
                call.abandon(unauthorized(call.method, role))

    def dismiss(self) -> None:
        """Send nothing any more, and drop what was kept."""
        self.gone = True
        self._backlog.clear()
        self._count(-self._backlog_bytes)
        if self._flush is not None:
            self._flush.cancel()

    def _keep(self, data: bytes) -> None:
        self._backlog.append(data)
        self._count(len(data))
        if self._backlog_bytes > MAX_BACKLOG or self._counters.backlog > MAX_BACKLOGS:
            # libzmq keeps some for it, too, as long as it is connected.
            self._hang_up()
        elif len(self._backlog) == 1:
            self._pause = _FLUSH_SOON
            self._flush_later()

    def _count(self, amount: int) -> None:
        self._backlog_bytes += amount
        self._counters.backlog += amount

    def _flush_later(self) -> None:
        self._flush = asyncio.get_running_loop().call_later(self._pause, self._flush_now)
        self._pause = min(self._pause * 2, _FLUSH_LATE)

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
            self._count(-len(self._backlog.popleft()))
            self._pause = _FLUSH_SOON
        for call in list(self.calls.values()):
            call.wake()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.cut()
        self._go()

    def _go(self) -> None:
        self.dismiss()
        self._lost(self)
