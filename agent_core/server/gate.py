"""Who may connect by TCP: libzmq asks here, over ZAP (ZeroMQ RFC 27), for each handshake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import zmq
from zmq.utils import z85

from agent_core.server.addresses import ZAP_DOMAIN
from agent_core.server.counters import Counters
from agent_core.wire.methods import Role

log = logging.getLogger(__name__)

_VERSION: Final = b"1.0"


class Gate:
    """Answers libzmq's questions about public keys; the key becomes the message's User-Id."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        callers: Mapping[bytes, Role],
        counters: Counters,
    ) -> None:
        self._callers = callers
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        # Without MECHANISM's reply libzmq lets a connection wait, so this must be bound first.
        self._socket.bind("inproc://zeromq.zap.01")
        self._descriptor = self._socket.fileno()
        self._loop.add_reader(self._descriptor, self._drain)
        self._loop.call_soon(self._drain)

    def close(self) -> None:
        """Stop answering; nobody can connect from now on."""
        if not self._socket.closed:
            self._loop.remove_reader(self._descriptor)
            self._socket.close()

    def role(self, user_id: str) -> Role | None:
        """Return what the holder of a key may do; None for one that is not allowed."""
        return self._callers.get(user_id.encode())

    def _drain(self) -> None:
        while not self._socket.closed:
            try:
                question = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._socket.send_multipart(self._answer(question))

    def _answer(self, question: list[bytes]) -> list[bytes]:
        _, request_id, domain, address, _, mechanism, *credentials = question
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        if domain == ZAP_DOMAIN.encode() and key in self._callers:
            return [_VERSION, request_id, b"200", b"OK", key, b""]
        self._counters.handshakes_refused += 1
        log.warning("refused the RPC key %s of %s", key.decode() or "(none)", address.decode())
        return [_VERSION, request_id, b"400", b"this key is not allowed", b"", b""]
