"""The listeners in front of kernels' ports: who has one, which certificate, how many callers."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from agent_core.contracts.errors import InvalidConfig
from agent_core.kernels.tls.relay import Buffers, CallerSide, Relay

log = structlog.get_logger(__name__)

INSIDE: Final = "127.0.0.1"
"""Where the ports of kernels are published that have a listener of the agent in front."""

CALLERS: Final = 512
"""Connections to one port at a time."""

_BACKLOG: Final = 128
_PAIR: Final = ("service-tls-cert", "service-tls-key")


class Front(NamedTuple):
    """A port of the node at which the agent speaks TLS, and the port of the kernel behind it."""

    port: int
    leads_to: int


class TlsFronts:
    """Listens with TLS in front of the ports of kernels, where a certificate is configured.

    Args:
        host: The address to listen at.
        idle: Seconds without a byte after which a connection is ended; None for no limit.

    Attributes:
        host: As above.
        idle: As above, for connections from now on.
    """

    def __init__(self, host: str = INSIDE, idle: float | None = None) -> None:
        self.idle = idle
        self.host = host
        self._context: ssl.SSLContext | None = None
        self._buffers = Buffers()
        self._listening: dict[int, _Listener] = {}
        self._most = max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._relays = 0
        self._turned_away = 0

    @property
    def enabled(self) -> bool:
        """Whether kernels that are made now get a listener for each port."""
        return self._context is not None

    async def load(self, cert: Path | None, key: Path | None) -> None:
        """Take a certificate for all connections from now on, or none for kernels from now on.

        Raises:
            InvalidConfig: when it cannot be used; the one before stays.
        """
        if cert is None and key is None:
            self._context = None
        elif cert is None or key is None:
            lacking, there = _PAIR if cert is None else _PAIR[::-1]
            raise InvalidConfig(
                f"[container] {there} is set and {lacking} is not",
                hint="Set both to serve kernels' ports over TLS, or neither.",
            )
        else:
            self._context = await asyncio.to_thread(_context, cert, key)
            for listener in self._listening.values():
                listener.context = self._context

    async def listen(self, front: Front) -> None:
        """Listen in front of a port; does nothing where that is done already.

        Raises:
            OSError: when the port cannot be bound.
            InvalidConfig: when there is no certificate.
        """
        if front.port in self._listening:
            return
        if self._context is None:
            raise InvalidConfig(
                f"port {front.port} is served over TLS, and there is no certificate any more",
                hint="Set [container] service-tls-cert and service-tls-key again.",
            )
        listener = _Listener(self, front, self._context)
        self._listening[front.port] = listener
        try:
            await listener.open(self.host)
        except BaseException:
            del self._listening[front.port]
            raise

    async def close(self, ports: Iterable[int] | None = None) -> None:
        """Listen no more, at some ports or at all, and drop their connections."""
        for port in [*self._listening] if ports is None else [*ports]:
            listener = self._listening.pop(port, None)
            if listener is not None:
                listener.close()

    def admits(self) -> bool:
        """Say whether one more connection may be taken: each costs two descriptors."""
        if self._relays < self._most:
            self._relays += 1
            return True
        self.turned_away("the agent", self._most)
        return False

    def turned_away(self, whose: str, most: int) -> None:
        """Count a connection too many, and log the first, the tenth, the hundredth."""
        self._turned_away += 1
        if str(self._turned_away).strip("0") == "1":
            log.warning(
                "callers of services are turned away",
                because=f"{whose} has {most} connections",
                times=self._turned_away,
            )

    def ended(self) -> None:
        """Count one connection less."""
        self._relays -= 1

    def make_relay(self, listener: _Listener) -> Relay:
        """Make what passes on one connection."""
        target = (INSIDE, listener.front.leads_to)
        return Relay(listener.context, target, self._buffers, self.idle, listener.forget)


class _Listener:
    """One listening port and its connections."""

    def __init__(self, fronts: TlsFronts, front: Front, context: ssl.SSLContext) -> None:
        self.front = front
        self.context = context
        self._fronts = fronts
        self._server: asyncio.Server | None = None
        self._relays: set[Relay] = set()

    async def open(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = await loop.create_server(
            self._accept, host, self.front.port, family=family, backlog=_BACKLOG
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for relay in [*self._relays]:
            relay.abort()

    def _accept(self) -> asyncio.BaseProtocol:
        if len(self._relays) >= CALLERS:
            self._fronts.turned_away(f"port {self.front.port}", CALLERS)
            return _TurnedAway()
        if not self._fronts.admits():
            return _TurnedAway()
        relay = self._fronts.make_relay(self)
        self._relays.add(relay)
        return CallerSide(relay)

    def forget(self, relay: Relay) -> None:
        self._relays.discard(relay)
        self._fronts.ended()


class _TurnedAway(asyncio.Protocol):
    """A connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without an answer of ours OpenSSL would ask for the password at the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        raise InvalidConfig(
            f"[container] service-tls-cert {cert} and service-tls-key {key} cannot be used: {why}",
            hint="Give a certificate and its private key as PEM files, the key without a password.",
        ) from exc
    return context
