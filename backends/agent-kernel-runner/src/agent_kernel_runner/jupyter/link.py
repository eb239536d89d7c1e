"""A link: a socket of ZeroMQ's kind, connected to one of a Jupyter kernel's; it never blocks."""

from __future__ import annotations

import _socket
import errno

from agent_kernel_runner.jupyter.zmtp import (
    GREETING,
    SUBSCRIBE_TO_ALL,
    Command,
    Decoder,
    ProtocolError,
    command,
    message,
    ready,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_kernel_runner.daemon.loop import Loop, Timer

    Address = str | tuple[str, int]

LONGEST_MESSAGE = 32 << 20
"""Bytes of the longest message that a kernel may send."""

_AGAIN = 0.01
_CHUNK = 1 << 18
_PENDING = 16 << 20


class Link:
    """Connects as soon as the kernel listens, and then sends and receives messages.

    Args:
        loop: The event loop.
        kind: The type of socket: ``DEALER`` or ``SUB``, which asks for every topic.
        identity: What the kernel calls this side by.
        addresses: Where the kernel listens; with several, whichever of them answers.
        on_message: Called with the parts of each message.
        on_up: Called once the handshake is done.
        on_lost: Called once with the reason when a link that was made is lost.
    """

    def __init__(
        self,
        loop: Loop,
        kind: str,
        identity: bytes,
        addresses: Sequence[Address],
        on_message: Callable[[list[bytes]], None],
        on_up: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._kind = kind
        self._identity = identity
        self._addresses = addresses
        self._on_message = on_message
        self._on_up = on_up
        self._on_lost = on_lost
        self._tries = 0
        self._timer: Timer | None = None
        self._sock: _socket.socket | None = None
        self._decoder = Decoder(LONGEST_MESSAGE)
        self._out = bytearray()
        self._open = True
        self.up = False

    # ---- connecting -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Try to connect, again and again until the kernel listens or the link is closed."""
        address = self._addresses[self._tries % len(self._addresses)]
        self._tries += 1
        family = _socket.AF_UNIX if isinstance(address, str) else _socket.AF_INET
        self._sock = sock = _socket.socket(family, _socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(address)
        except OSError as exc:
            if exc.errno == errno.EINPROGRESS:
                self._loop.on_writable(sock.fileno(), self._decided)
            else:
                self._retry()
            return
        self._connected()

    def _decided(self) -> None:
        """Go on once the system has found out whether somebody listens."""
        sock = self._sock
        if sock is None:
            return
        self._loop.on_writable(sock.fileno(), None)
        if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) or _is_itself(sock):
            self._retry()
        else:
            self._connected()

    def _retry(self) -> None:
        self._drop()
        self._timer = self._loop.call_later(_AGAIN, self.connect)

    def _connected(self) -> None:
        assert self._sock is not None  # noqa: S101 - for the type checker
        self._loop.on_readable(self._sock.fileno(), self._readable)
        says = {"Socket-Type": self._kind.encode(), "Identity": self._identity}
        self._write(GREETING + ready(says))

    def _drop(self) -> None:
        if self._sock is not None:
            fd = self._sock.fileno()
            self._loop.on_readable(fd, None)
            self._loop.on_writable(fd, None)
            self._sock.close()
            self._sock = None

    # ---- the conversation -----------------------------------------------------------------------

    def send(self, parts: Sequence[bytes]) -> None:
        """Send one message, now or as soon as the kernel takes it."""
        if self._open:
            self._write(message(parts))

    def _write(self, data: bytes) -> None:
        self._out += data
        if len(self._out) > _PENDING:
            self._lose("it does not read what it is sent")
        elif len(self._out) == len(data):
            self._flush()

    def _flush(self) -> None:
        if self._sock is None:
            return
        fd = self._sock.fileno()
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            self._loop.on_writable(fd, self._flush)
        except OSError as exc:
            self._fall(str(exc))
        else:
            self._loop.on_writable(fd, None)

    def _readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:
            self._fall(str(exc))
            return
        if not data:
            self._fall("the kernel closed it")
            return
        try:
            for item in self._decoder.feed(data):
                self._take(item)
        except ProtocolError as exc:
            self._lose(str(exc))

    def _take(self, item: Command | list[bytes]) -> None:
        if not self._open:
            return
        if not isinstance(item, Command):
            self._on_message(item)
        elif item.name == b"READY" and not self.up:
            self.up = True
            if self._kind == "SUB":
                self._write(message([SUBSCRIBE_TO_ALL]))
            self._on_up()
        elif item.name == b"PING":
            # Its first two bytes say how long the other side will wait.
            self._write(command(b"PONG", item.body[2:18]))
        elif item.name == b"ERROR":
            raise ProtocolError("the kernel refused the connection")

    def close(self) -> None:
        """End it; what was not taken is dropped."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._drop()

    def _fall(self, reason: str) -> None:
        """Deal with the end of a connection; one that ends before its handshake is made again."""
        if self.up:
            self._lose(reason)
        elif self._open:
            self._out.clear()
            self._decoder = Decoder(LONGEST_MESSAGE)
            self._retry()

    def _lose(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_lost(reason)


def _is_itself(sock: _socket.socket) -> bool:
    """Tell whether a socket met itself, as one can that tries a local port where nobody listens."""
    return bool(sock.getsockname() == sock.getpeername())
