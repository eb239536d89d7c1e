"""One attempt to reach a port: whether somebody takes the connection, and what HTTP answers."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop

    Done = Callable[[bytes | None, str], None]

LONGEST_LINE = 512
"""Bytes of an answer that are read: its status stands at the beginning."""

_NOWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be reached from here


def open_socket(host: str) -> _socket.socket:
    """Make a socket for connections to a host."""
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    return _socket.socket(family, _socket.SOCK_STREAM)


def reachable(host: str) -> str:
    """Say where what listens at an address is reached from here."""
    return _NOWHERE.get(host, host)


class Attempt:
    """Connects once and, where a path is given, asks for it and reads the beginning of the answer.

    Args:
        loop: The event loop.
        address: The host and the port.
        path: What is asked for with HTTP; nothing when empty.
        seconds: How long it may take.
        done: Called once, with the beginning of the answer or None, and why there is none.
    """

    def __init__(
        self, loop: Loop, address: tuple[str, int], path: str, seconds: float, done: Done
    ) -> None:
        self._loop = loop
        self._address = (reachable(address[0]), address[1])
        self._path = path
        self._done = done
        self._heard = b""
        self._seconds = seconds
        self._timer = loop.call_later(seconds, self._late)
        self._sock: _socket.socket | None = open_socket(self._address[0])
        self._connect(self._sock)

    def stop(self) -> None:
        """Give it up; nobody is called."""
        self._timer.cancel()
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.on_readable(sock.fileno(), None)
            self._loop.on_writable(sock.fileno(), None)
            sock.close()

    def _connect(self, sock: _socket.socket) -> None:
        sock.setblocking(False)
        try:
            sock.connect(self._address)
        except BlockingIOError:
            pass
        except OSError as exc:
            # Not from within the constructor: whoever is called may not know us yet.
            why = f"it does not listen: {exc.strerror}"
            self._timer.cancel()
            self._timer = self._loop.call_later(0, lambda: self._end(None, why))
            return
        self._loop.on_writable(sock.fileno(), self._connected)

    def _connected(self) -> None:
        sock = self._sock
        if sock is None:
            return
        self._loop.on_writable(sock.fileno(), None)
        # A port that nobody listens on, of those that the system gives out, can reach itself.
        if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) or _is_itself(sock):
            self._end(None, f"it does not listen on port {self._address[1]}")
        elif self._path:
            self._ask(sock)
        else:
            self._end(b"", "")

    def _ask(self, sock: _socket.socket) -> None:
        host = self._address[0]
        shown = f"[{host}]" if ":" in host else host
        try:
            sock.send(
                f"GET {self._path} HTTP/1.1\r\nHost: {shown}:{self._address[1]}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
        except OSError:
            self._end(None, "it hung up")
        else:
            self._loop.on_readable(sock.fileno(), self._hear)

    def _hear(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if not data or b"\n" in self._heard or len(self._heard) >= LONGEST_LINE:
            self._end(self._heard or None, "" if self._heard else "it hung up without an answer")

    def _late(self) -> None:
        self._end(None, f"it did not answer within {self._seconds:g} s")

    def _end(self, answer: bytes | None, why: str) -> None:
        if self._sock is not None:
            self.stop()
            self._done(answer, why)


def _is_itself(sock: _socket.socket) -> bool:
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return True  # it is not connected at all
