"""Who may connect by TCP: libzmq asks here, over ZAP (ZeroMQ RFC 27), for each handshake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils import z85

from agent_core.server.addresses import ZAP_DOMAIN
from agent_core.server.callers import Callers
from agent_core.server.counters import Counters
from agent_core.wire.roles import Role

log = logging.getLogger(__name__)

_VERSION: Final = b"1.0"
_KEY_BYTES: Final = 32

_LOOK_INTERVAL: Final = 1.0
"""Seconds until a key that was removed admits nothing more, when nobody else connects."""


class Gate:
    """Answers libzmq's questions about public keys; the key becomes the message's User-Id.

    Args:
        context: Whose sockets ask.
        callers: Who may connect; looked at again at each handshake, and each second.
        counters: Where refusals are counted.
        changed: Called when the role of a key has changed, or a key has gone.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        callers: Callers,
        counters: Counters,
        changed: Callable[[], None],
    ) -> None:
        self._callers = callers
        self._counters = counters
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        # Without MECHANISM's reply libzmq lets a connection wait, so this must be bound first.
        self._socket.bind("inproc://zeromq.zap.01")
        self._descriptor = self._socket.fileno()
        self._loop.add_reader(self._descriptor, self._drain)
        self._loop.call_soon(self._drain)
        self._timer = self._loop.call_later(_LOOK_INTERVAL, self._look_on)

    def close(self) -> None:
        """Stop answering; nobody can connect from now on."""
        if not self._socket.closed:
            self._timer.cancel()
            self._loop.remove_reader(self._descriptor)
            self._socket.close()

    def role(self, user_id: str) -> Role | None:
        """Return what the holder of a key may do; None for one that is not allowed."""
        return self._callers.role(user_id)

    def _look_on(self) -> None:
        self._timer = self._loop.call_later(_LOOK_INTERVAL, self._look_on)
        self._look()

    def _look(self) -> None:
        if self._callers.look():
            self._changed()

    def _drain(self) -> None:
        while not self._socket.closed:
            try:
                question = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._look()
            self._socket.send_multipart(self._answer(question))

    def _answer(self, question: list[bytes]) -> list[bytes]:
        _, request_id, domain, address, _, mechanism, *credentials = question
        key = _key(credentials) if mechanism == b"CURVE" and domain == ZAP_DOMAIN.encode() else ""
        if self._callers.role(key) is not None:
            return [_VERSION, request_id, b"200", b"OK", key.encode(), b""]
        self._counters.handshakes_refused += 1
        log.warning("refused the RPC key %s of %s", key or "(none)", address.decode())
        return [_VERSION, request_id, b"400", b"this key is not allowed", b"", b""]


def _key(credentials: list[bytes]) -> str:
    whole = len(credentials) == 1 and len(credentials[0]) == _KEY_BYTES
    return z85.encode(credentials[0]).decode() if whole else ""
