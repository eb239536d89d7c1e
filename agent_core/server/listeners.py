"""The sockets that the RPC server listens at: opened together, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from agent_core.server.addresses import TcpAddress, UnixBinding, bind_tcp
from agent_core.server.counters import Counters
from agent_core.server.transport import Received, RoleOf, Transport, router

if TYPE_CHECKING:
    from agent_core.server.gate import Gate


class Listeners:
    """Owns the ZeroMQ context and all that was opened in it.

    `changed` is called when somebody's key has gone, or has another role.

    Attributes:
        addresses: Where clients can connect, as they name it.
    """

    def __init__(
        self,
        counters: Counters,
        receive: Callable[[Transport, Received], None],
        changed: Callable[[], None],
        *,
        unix: Path | None,
        tcp: TcpAddress | None,
    ) -> None:
        self.addresses: tuple[str, ...] = ()
        self._counters = counters
        self._receive = receive
        self._changed = changed
        self._unix = UnixBinding(unix) if unix is not None else None
        self._tcp = tcp
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._transports: list[Transport] = []
        self._gate: Gate | None = None

    def open(self) -> None:
        """Listen everywhere, or nowhere when one address fails.

        Raises:
            InvalidConfig: when an address cannot be used.
            Conflict: when another server answers at the unix socket.
        """
        self._context = zmq.Context()
        try:
            if self._unix is not None:
                self._open_unix(self._context, self._unix)
            if self._tcp is not None:
                self._open_tcp(self._context, self._tcp)
        except BaseException:
            self._close_sockets(linger=0.0)
            self._context.term()
            self._release()
            raise

    async def close(self, linger: float) -> None:
        """Close all sockets; what was sent may still leave for `linger` seconds."""
        self._close_sockets(linger)
        if self._context is not None:
            await asyncio.to_thread(self._context.term)
        self._release()

    def _open_unix(self, context: zmq.Context[zmq.Socket[bytes]], binding: UnixBinding) -> None:
        socket = router(context)
        with _closed_on_error(socket):
            address = binding.bind(socket)
        self._add(Transport(socket, self._receive, local=True), address)

    def _open_tcp(self, context: zmq.Context[zmq.Socket[bytes]], tcp: TcpAddress) -> None:
        role_of: RoleOf | None = None
        if tcp.keys is not None and not tcp.insecure:
            # Without TCP, start-up does not pay for this.
            from agent_core.server.callers import Callers
            from agent_core.server.gate import Gate

            callers = Callers(tcp.keys.directory)
            self._gate = Gate(context, callers, self._counters, self._changed)
            role_of = self._gate.role
        socket = router(context)
        with _closed_on_error(socket):
            address = bind_tcp(socket, tcp)
        self._add(Transport(socket, self._receive, role_of=role_of), address)

    def _add(self, transport: Transport, address: str) -> None:
        self._transports.append(transport)
        self.addresses = (*self.addresses, address)

    def _close_sockets(self, linger: float) -> None:
        for transport in self._transports:
            transport.close(linger)
        if self._gate is not None:
            self._gate.close()

    def _release(self) -> None:
        if self._unix is not None:
            self._unix.release()
        self._transports.clear()
        self._context = None
        self.addresses = ()


@contextmanager
def _closed_on_error(socket: zmq.Socket[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        socket.close()
        raise
