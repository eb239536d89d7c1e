"""Readiness: whether somebody answers at a port of a service."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop, Timer

PAUSE = 0.03
LONGEST_PAUSE = 0.5
"""Seconds between two tries: few at first, and more the longer nobody answers."""

ATTEMPT = 10.0
"""Seconds that one try may take."""

_NOWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be reached from here
_ANSWER = b"HTTP/"


def open_socket(host: str) -> _socket.socket:
    """Make a socket for connections to a host."""
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    return _socket.socket(family, _socket.SOCK_STREAM)


def reachable(host: str) -> str:
    """Say where what listens at an address is reached from here."""
    return _NOWHERE.get(host, host)


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens at a port now."""
    sock = open_socket(reachable(host))
    try:
        sock.settimeout(0.2)
        sock.connect((reachable(host), port))
        return bool(sock.getsockname() != sock.getpeername())
    except OSError:
        return False
    finally:
        sock.close()


class Probe:
    """Tries a port until somebody answers, or until it is told to stop.

    Args:
        loop: The event loop.
        host: Where the service listens.
        port: Its port.
        http: Whether an answer is one of HTTP, whatever it says; else to accept is enough.
        ready: Called once, when somebody has answered.
    """

    def __init__(
        self, loop: Loop, host: str, port: int, *, http: bool, ready: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._address = (reachable(host), port)
        self._http = http
        self._ready = ready
        self._sock: _socket.socket | None = None
        self._timer: Timer | None = None
        self._pause = PAUSE
        self._heard = b""
        self._try()

    def stop(self) -> None:
        """Try no more."""
        self._hang_up()

    def _try(self) -> None:
        self._sock = sock = open_socket(self._address[0])
        sock.setblocking(False)
        self._timer = self._loop.call_later(ATTEMPT, self._again)
        try:
            sock.connect(self._address)
        except BlockingIOError:
            self._loop.on_writable(sock.fileno(), self._connected)
        except OSError:
            self._again()
        else:
            self._connected()

    def _connected(self) -> None:
        sock = self._sock
        if sock is None:
            return
        self._loop.on_writable(sock.fileno(), None)
        # A port that nobody listens on, of those that the system gives out, can reach itself.
        if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) or self._is_itself(sock):
            self._again()
        elif self._http:
            self._ask(sock)
        else:
            self._found()

    @staticmethod
    def _is_itself(sock: _socket.socket) -> bool:
        try:
            return bool(sock.getsockname() == sock.getpeername())
        except OSError:
            return True  # it is not connected at all

    def _ask(self, sock: _socket.socket) -> None:
        host = self._address[0]
        shown = f"[{host}]" if ":" in host else host
        self._heard = b""
        try:
            sock.send(
                f"GET / HTTP/1.1\r\nHost: {shown}:{self._address[1]}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
        except OSError:
            self._again()
        else:
            self._loop.on_readable(sock.fileno(), self._hear)

    def _hear(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(len(_ANSWER))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if self._heard.startswith(_ANSWER):
            self._found()
        elif not data or len(self._heard) >= len(_ANSWER):
            self._again()

    def _again(self) -> None:
        self._hang_up()
        self._timer = self._loop.call_later(self._pause, self._try)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _found(self) -> None:
        self._hang_up()
        self._ready()

    def _hang_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            self._loop.on_readable(self._sock.fileno(), None)
            self._loop.on_writable(self._sock.fileno(), None)
            self._sock.close()
            self._sock = None
