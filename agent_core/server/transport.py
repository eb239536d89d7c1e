"""A ROUTER socket on the event loop: messages in, messages out, and what became of them.

The socket is a plain one, read through its file descriptor. That descriptor tells of changes, not
of levels: it must be drained until nothing is left, and again after each send, since a send may
swallow the sign that something arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

import zmq

from agent_core.wire.frames import MAX_MESSAGE
from agent_core.wire.roles import Role

if TYPE_CHECKING:
    from agent_core.server.connections import TcpConnection

log = logging.getLogger(__name__)

_POLLIN: Final = int(zmq.POLLIN)
"""A plain number: the library's own flag costs more to compare than all else of a look."""

_BATCH: Final = 256
"""Messages read before other work of the loop gets its turn."""

HANDSHAKE_MS: Final = 5_000
"""Milliseconds within which a connection must be a client's, or it is closed."""

_SEND_QUEUE: Final = 32
"""Messages that libzmq keeps for one connection before `Delivery.FULL`.

It counts messages, and each may be `MAX_MESSAGE` long: what waits beyond these few is counted by
its bytes, where a client's backlog is kept.
"""


RoleOf = Callable[[str], Role | None]
"""Says what the holder of a key may do; None for one that is not allowed."""


class Delivery(Enum):
    """What became of a message."""

    SENT = "sent"
    FULL = "full"
    """The peer does not read; it may later."""
    GONE = "gone"
    """The peer is not connected."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message: who sent it, the key that it was authenticated by ("" without), what it says.

    `body` is None for a message that does not have exactly one part, or one that is too long.
    """

    identity: bytes
    user_id: str
    body: bytes | None
    part: zmq.Frame | None = None

    def connection(self) -> TcpConnection | None:
        """Find the connection by which it came; None where keys play no role, or it has gone."""
        if self.part is None:
            return None
        from agent_core.server.connections import TcpConnection

        return TcpConnection.of(self.part)


class Transport:
    """Reads and writes one bound ROUTER socket; owns and closes it.

    Args:
        socket: Bound already.
        receive: Called with each message.
        local: Whether it is the unix socket.
        role_of: Says what the holder of a key may do; None where there are no keys, and whoever
            can connect may do everything.

    Attributes:
        local: Whether it is the unix socket.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Callable[[Transport, Received], None],
        *,
        local: bool = False,
        role_of: RoleOf | None = None,
    ) -> None:
        self.local = local
        self._socket = socket
        self._receive = receive
        self._role_of = role_of
        self._loop = asyncio.get_running_loop()
        self._drain_due = False
        self._draining = False
        self._descriptor = socket.fileno()
        self._loop.add_reader(self._descriptor, self._drain)
        self._drain_soon()

    def role_of(self, user_id: str) -> Role | None:
        """Return what the sender of a message may do; None when its key is not allowed."""
        return Role.ADMIN if self._role_of is None else self._role_of(user_id)

    def send(self, identity: bytes, data: bytes) -> Delivery:
        """Send without waiting."""
        delivery = self._send(identity, data)
        if not self._draining and self._readable():
            self._drain_soon()
        return delivery

    def _send(self, identity: bytes, data: bytes) -> Delivery:
        try:
            self._socket.send(identity, zmq.SNDMORE | zmq.NOBLOCK)
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return Delivery.FULL
        except zmq.ZMQError:
            # EHOSTUNREACH, or the socket is already closed: either way nobody will get it.
            return Delivery.GONE
        return Delivery.SENT

    def close(self, linger: float = 0.0) -> None:
        """Close the socket; what was sent may still leave for `linger` seconds."""
        if not self._socket.closed:
            self._loop.remove_reader(self._descriptor)
            self._socket.close(linger=int(linger * 1000))

    def _drain_soon(self) -> None:
        if not self._drain_due:
            self._drain_due = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._drain_due = False
        self._draining = True
        try:
            for _ in range(_BATCH):
                if not self._readable():
                    return
                self._hand_over(self._next())
        finally:
            self._draining = False
        self._drain_soon()

    def _readable(self) -> bool:
        # Cheaper than to try and catch the exception.
        return not self._socket.closed and bool(
            cast("int", self._socket.getsockopt(zmq.EVENTS)) & _POLLIN
        )

    def _hand_over(self, message: Received) -> None:
        try:
            self._receive(self, message)
        except Exception:
            log.exception("a message could not be handled; the server goes on")

    def _next(self) -> Received:
        identity = self._socket.recv(zmq.NOBLOCK)
        if self._role_of is None:
            body = self._socket.recv(zmq.NOBLOCK)
            whole = not self._socket.getsockopt(zmq.RCVMORE)
            received = Received(identity, "", body if whole else None)
        else:
            part = self._socket.recv(zmq.NOBLOCK, copy=False)
            whole = not part.more
            user_id = str(part.get("User-Id"))
            received = Received(identity, user_id, part.bytes if whole else None, part)
        if not whole:
            self._skip()
        return received

    def _skip(self) -> None:
        while self._socket.getsockopt(zmq.RCVMORE):
            self._socket.recv(zmq.NOBLOCK)


def router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Make an unbound ROUTER socket with the bounds that every address shares."""
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.sndhwm = _SEND_QUEUE
    socket.set(zmq.ROUTER_MANDATORY, 1)
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    # libzmq drops the connection of whoever sends more, with no word to it.
    socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
    return socket
