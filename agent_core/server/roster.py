"""All connected clients: found by their connection, forgotten when they have gone."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from agent_core.server.counters import Counters
from agent_core.server.peers import Peer
from agent_core.server.transport import Received, Transport

_IDLE_SWEEPS: Final = 12
"""Sweeps after which a client without calls is forgotten; it may well come back."""


class Roster:
    """The clients, and a regular look for those that went away without a word.

    libzmq does not say that a client of a ROUTER has gone; sending to it does. So whoever has a
    call in flight gets an empty frame at each sweep, and its calls are abandoned when that fails.
    """

    def __init__(self, counters: Counters, sweep_interval: float) -> None:
        self._counters = counters
        self._interval = sweep_interval
        self._peers: dict[tuple[int, bytes], Peer] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._peers)

    def find(self, transport: Transport, message: Received) -> Peer | None:
        """Return the client that sent a message; None when its key is no longer allowed."""
        key = (id(transport), message.identity)
        peer = self._peers.get(key)
        if peer is not None and peer.user_id != message.user_id:
            # A client names its connection itself: once the name is free, another may take it.
            peer.leave()
            peer = None
        if peer is None:
            role = transport.role_of(message.user_id)
            if role is None:
                self._turn_away(message)
                return None
            lost = partial(self._lost, key)
            peer = self._peers[key] = Peer(transport, message, role, self._counters, lost)
        peer.idle_sweeps = 0
        return peer

    def start(self) -> None:
        """Begin to look for clients that went away."""
        self._sweep = asyncio.get_running_loop().call_later(self._interval, self._sweep_now)

    def review(self) -> None:
        """Look again what each client may do."""
        for peer in list(self._peers.values()):
            peer.review()

    def close(self) -> None:
        """Forget all clients."""
        if self._sweep is not None:
            self._sweep.cancel()
        for peer in self._peers.values():
            peer.dismiss()
        self._peers.clear()

    def _sweep_now(self) -> None:
        for key, peer in list(self._peers.items()):
            if peer.calls:
                peer.probe()
                continue
            peer.idle_sweeps += 1
            if peer.idle_sweeps > _IDLE_SWEEPS:
                del self._peers[key]
        self.start()

    def _turn_away(self, message: Received) -> None:
        self._counters.revoked += 1
        connection = message.connection()
        if connection is not None:
            connection.cut()

    def _lost(self, key: tuple[int, bytes], peer: Peer) -> None:
        self._counters.vanished += 1
        self._peers.pop(key, None)
        for call in list(peer.calls.values()):
            call.abandon()
