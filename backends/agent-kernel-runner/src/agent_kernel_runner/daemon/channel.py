"""A framed conversation over a stream socket that never blocks."""

from __future__ import annotations

from agent_kernel_runner.daemon.framing import MAX_FRAME, FrameError, FrameReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket
    from typing import Any

    from agent_kernel_runner.daemon.loop import Loop

_CHUNK = 1 << 16


class Channel:
    """Frames over one connected socket, which it owns.

    Args:
        loop: The event loop.
        sock: The socket.
        on_message: Called with each message.
        on_lost: Called once with the reason, after the socket was closed, unless `close` was.
        limit: Bytes of the longest frame to accept.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket,
        on_message: Callable[[dict[str, Any]], None],
        on_lost: Callable[[str], None],
        limit: int = MAX_FRAME,
    ) -> None:
        self.on_drained: Callable[[], None] = lambda: None
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._on_message = on_message
        self._on_lost = on_lost
        self._reader = FrameReader(limit)
        self._out = bytearray()
        self._open = True
        sock.setblocking(False)
        loop.on_readable(self._fd, self._readable)

    @property
    def pending(self) -> int:
        """Bytes that the other side has not taken yet."""
        return len(self._out)

    def send(self, frame: bytes) -> None:
        """Send a frame, now or as soon as the other side takes it."""
        if not self._open:
            return
        self._out += frame
        if len(self._out) == len(frame):
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            self._loop.on_writable(self._fd, self._writable)
        except OSError as exc:
            self._lose(str(exc))
        else:
            self._loop.on_writable(self._fd, None)

    def _writable(self) -> None:
        self._flush()
        if self._open:
            self.on_drained()

    def _readable(self) -> None:
        self.receive()

    def receive(self) -> None:
        """Take what has arrived, once."""
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:
            self._lose(str(exc))
            return
        if not data:
            self._lose("the other side closed it")
            return
        try:
            for message in self._reader.feed(data):
                if self._open:
                    self._on_message(message)
        except FrameError as exc:
            self._lose(str(exc))

    def drain(self) -> None:
        """Take everything that has arrived, up to the end of the stream."""
        import select

        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while self._open and poller.poll(0):
            self.receive()

    def close(self) -> None:
        """End the conversation; what was not taken is dropped."""
        if self._open:
            self._open = False
            self._loop.on_readable(self._fd, None)
            self._loop.on_writable(self._fd, None)
            self._sock.close()

    def _lose(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_lost(reason)
