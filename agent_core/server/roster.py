"""All connected clients: found by their connection, forgotten when they have gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from agent_core.server.counters import Counters
from agent_core.server.peers import Peer
from agent_core.server.transport import Transport
from agent_core.wire.methods import Role

_IDLE_SWEEPS: Final = 12
"""Sweeps after which a client without calls is forgotten; it may well come back."""

RoleOf = Callable[[str], Role | None]
"""Says what the holder of a key may do; None for one that is not allowed."""


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

    def find(
        self, transport: Transport, identity: bytes, user_id: str, role_of: RoleOf
    ) -> Peer | None:
        """Return the client that sent a message; None when its key is not allowed."""
        key = (id(transport), identity)
        peer = self._peers.get(key)
        if peer is None:
            role = role_of(user_id)
            if role is None:
                return None
            peer = Peer(transport, identity, role, partial(self._lost, key))
            self._peers[key] = peer
        peer.idle_sweeps = 0
        return peer

    def start(self) -> None:
        """Begin to look for clients that went away."""
        self._sweep = asyncio.get_running_loop().call_later(self._interval, self._sweep_now)

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

    def _lost(self, key: tuple[int, bytes], peer: Peer) -> None:
        self._counters.vanished += 1
        self._peers.pop(key, None)
        for call in list(peer.calls.values()):
            call.abandon()
