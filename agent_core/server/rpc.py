"""The RPC server: listens, admits requests, answers them, and serves on whatever comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_core.contracts.errors import (
    AgentError,
    AgentUnreachable,
    Busy,
    MalformedFrame,
    ProtocolMismatch,
)
from agent_core.server.addresses import TcpAddress
from agent_core.server.calls import Call, as_agent_error
from agent_core.server.counters import Counters
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.listeners import Listeners
from agent_core.server.peers import Peer
from agent_core.server.roster import Roster
from agent_core.server.transport import Received, Transport
from agent_core.wire.frames import (
    Cancel,
    Credit,
    Frame,
    Request,
    decode,
    encode_error,
    encode_reply,
)
from agent_core.wire.methods import Method, find
from agent_core.wire.roles import Role

_LINGER: Final = 0.2
"""Seconds that the last answers have to leave when the server stops."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's bounds.

    Attributes:
        in_flight: Requests in flight of all clients.
        in_flight_kept: Of these, only clients of the unix socket get the last ones: whatever
            comes by TCP, the node's operator can look.
        in_flight_of_peer: Requests in flight of one client.
        retry_after: Seconds that a refused client is told to wait.
        sweep_interval: Seconds between two looks for clients that went away.
    """

    in_flight: int = 1024
    in_flight_kept: int = 64
    in_flight_of_peer: int = 256
    retry_after: float = 0.25
    sweep_interval: float = 5.0


class RpcServer:
    """Serves a dispatcher's methods at a unix socket, a TCP address, or both.

    Whoever can open the unix socket is its owner and may do everything; a TCP client has the role
    of its key.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        unix: Path | None = None,
        tcp: TcpAddress | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.counters = Counters()
        self._dispatcher = dispatcher
        self._limits = limits or Limits()
        self._roster = Roster(self.counters, self._limits.sweep_interval)
        self._listeners = Listeners(
            self.counters, self._receive, self._roster.review, unix=unix, tcp=tcp
        )
        self._calls: set[Call] = set()
        self._stopping = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server listens, as clients name it."""
        return self._listeners.addresses

    @property
    def in_flight(self) -> int:
        """How many requests are being worked on."""
        return len(self._calls)

    def start(self) -> None:
        """Listen; requests are answered from the loop's next turn on. Needs a running loop.

        Raises:
            InvalidConfig: when an address cannot be used.
            Conflict: when another server answers at the unix socket.
        """
        self._listeners.open()
        self._roster.start()

    async def stop(self, grace: float = 5.0) -> None:
        """Stop: refuse what is new, end what only looks, give the rest `grace` seconds, close."""
        self._stopping = True
        for call in list(self._calls):
            if call.method.role is Role.READ:
                call.abandon(_stopping())
        await self._settle(grace)
        for call in list(self._calls):
            call.abandon(_stopping())
            call.cancel()
        await self._settle(1.0)
        self._roster.close()
        await self._listeners.close(_LINGER)

    async def _settle(self, grace: float) -> None:
        waits = [asyncio.ensure_future(call.wait()) for call in self._calls]
        if waits:
            _, late = await asyncio.wait(waits, timeout=grace)
            for wait in late:
                wait.cancel()

    def _receive(self, transport: Transport, message: Received) -> None:
        peer = self._roster.find(transport, message)
        if peer is None:
            return
        if message.body is None:
            self.counters.malformed += 1
            return
        try:
            frame = decode(message.body)
            self._accept(peer, frame)
        except (MalformedFrame, ProtocolMismatch) as exc:
            self.counters.malformed += 1
            request_id = exc.details.get("id")
            if request_id is not None:
                peer.send(encode_error(request_id, exc))

    def _accept(self, peer: Peer, frame: Frame) -> None:
        if isinstance(frame, Request):
            self._request(peer, frame)
        elif isinstance(frame, Cancel):
            if call := peer.calls.get(frame.id):
                call.abandon()
        elif isinstance(frame, Credit):
            if call := peer.calls.get(frame.id):
                call.grant(frame.amount)
        else:
            kind = type(frame).__name__.lower()
            raise MalformedFrame(f"an agent takes no {kind} frames", details={"id": frame.id})

    def _request(self, peer: Peer, request: Request) -> None:
        if peer.repeats(request.id):
            self.counters.duplicates += 1
            return
        try:
            self._admit(peer)
            method = find(request.method)
        except AgentError as exc:
            self.counters.refuse(exc.code)
            peer.send(encode_error(request.id, exc))
            return
        self._answer(peer, request, method)

    def _admit(self, peer: Peer) -> None:
        if self._stopping:
            raise _stopping()
        limits = self._limits
        room = limits.in_flight if peer.local else limits.in_flight - limits.in_flight_kept
        if len(self._calls) >= room or len(peer.calls) >= limits.in_flight_of_peer:
            raise Busy(
                f"{len(peer.calls)} requests of this client are in flight, "
                f"{len(self._calls)} of all clients",
                details={"retry_after": limits.retry_after},
            )

    def _answer(self, peer: Peer, request: Request, method: Method[Any]) -> None:
        began = time.perf_counter()
        counter = self.counters.method(method.name)
        counter.requests += 1
        try:
            work = self._dispatcher.dispatch(method, request.params, peer.role)
            if method.item is not None or isinstance(work, Awaitable):
                self._begin(peer, request, method, work)
                return
            data = encode_reply(request.id, method.render(work))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - and a plugin's exit is not the agent's
            error = as_agent_error(exc, method, self.counters)
            counter.end(time.perf_counter() - began, error.code)
            peer.send(encode_error(request.id, error))
            return
        counter.end(time.perf_counter() - began, None)
        peer.send(data)

    def _begin(self, peer: Peer, request: Request, method: Method[Any], work: object) -> None:
        call = Call(peer, request, method, self.counters, self._ended)
        self._calls.add(call)
        call.begin(work, request.timeout)

    def _ended(self, call: Call) -> None:
        self._calls.discard(call)


def _stopping() -> AgentUnreachable:
    return AgentUnreachable(
        "the agent is stopping", hint="Connect again once it has started; kernels go on."
    )
