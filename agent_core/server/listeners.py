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
from agent_core.server.roster import RoleOf
from agent_core.server.transport import Received, Transport, router
from agent_core.wire.methods import Role

if TYPE_CHECKING:
    from agent_core.server.gate import Gate


class Listeners:
    """Owns the ZeroMQ context and all that was opened in it.

    Attributes:
        addresses: Where clients can connect, as they name it.
    """

    def __init__(
        self,
        counters: Counters,
        receive: Callable[[Transport, Received], None],
        *,
        unix: Path | None,
        tcp: TcpAddress | None,
    ) -> None:
        self.addresses: tuple[str, ...] = ()
        self._counters = counters
        self._receive = receive
        self._unix = UnixBinding(unix) if unix is not None else None
        self._tcp = tcp
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._roles: dict[Transport, RoleOf] = {}
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

    def role_of(self, transport: Transport) -> RoleOf:
        """Return what says which role a client of this transport has."""
        return self._roles[transport]

    def _open_unix(self, context: zmq.Context[zmq.Socket[bytes]], binding: UnixBinding) -> None:
        socket = router(context)
        with _closed_on_error(socket):
            address = binding.bind(socket)
        self._add(Transport(socket, self._receive), address, _everything)

    def _open_tcp(self, context: zmq.Context[zmq.Socket[bytes]], tcp: TcpAddress) -> None:
        role_of: RoleOf = _everything
        if not tcp.insecure:
            # Without TCP, start-up does not pay for this.
            from agent_core.server.gate import Gate

            self._gate = Gate(context, tcp.callers, self._counters)
            role_of = self._gate.role
        socket = router(context)
        with _closed_on_error(socket):
            address = bind_tcp(socket, tcp)
        transport = Transport(socket, self._receive, authenticated=not tcp.insecure)
        self._add(transport, address, role_of)

    def _add(self, transport: Transport, address: str, role_of: RoleOf) -> None:
        self._roles[transport] = role_of
        self.addresses = (*self.addresses, address)

    def _close_sockets(self, linger: float) -> None:
        for transport in self._roles:
            transport.close(linger)
        if self._gate is not None:
            self._gate.close()

    def _release(self) -> None:
        if self._unix is not None:
            self._unix.release()
        self._roles.clear()
        self._context = None
        self.addresses = ()


@contextmanager
def _closed_on_error(socket: zmq.Socket[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        socket.close()
        raise


def _everything(_user_id: str) -> Role:
    return Role.ADMIN
