"""A channel between the agent and a worker: plain data in frames of bounded size, on a socket.

A frame is four bytes of length, most significant first, and a message in msgpack. Only plain data
is ever sent: what arrives is never code, whoever wrote it.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

FRAME_BOUND: Final = 16 << 20
"""Bytes of the largest message."""

LOAD: Final = "load"
"""The one request that is no method of a contract: import the plugin and check its class."""

_HEADER: Final = 4
_CHUNK: Final = 1 << 16
_BIG_INTEGER: Final = 1


class Garbled(ValueError):
    """Raised when what arrived is not a message, or a message is too large to be sent."""


class Channel:
    """One end: messages out and in, one thread at a time in each direction."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._received = bytearray()

    def send(self, message: Any) -> None:
        """Send one message; blocks while the other side does not read.

        Raises:
            Garbled: when it is too large, or not plain data; nothing was sent.
            OSError: when the other side is gone.
        """
        self.send_frame(packed(message))

    def send_frame(self, frame: bytes) -> None:
        """Send what `packed` rendered; OSError when the other side is gone."""
        self._socket.sendall(frame)

    def receive(self, timeout: float | None = None) -> Any:
        """Wait for one message; the timeout, in seconds, is of each piece that arrives.

        Raises:
            EOFError: when the other side is gone.
            Garbled: when what arrived is no message.
            TimeoutError: when nothing arrived in time.
        """
        if timeout != self._socket.gettimeout():
            self._socket.settimeout(timeout)
        received = self._received
        self._await(received, _HEADER)
        size = int.from_bytes(received[:_HEADER], "big")
        if size > FRAME_BOUND:
            raise Garbled(f"a frame of {size} bytes, beyond the bound of {FRAME_BOUND}")
        end = _HEADER + size
        self._await(received, end)
        body = bytes(received[_HEADER:end])
        del received[:end]
        return _unpacked(body)

    def hang_up(self) -> None:
        """Wake whoever waits at either end; the channel carries nothing any more."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was faster

    def close(self) -> None:
        """Close this end; nobody may wait at it any more."""
        self._socket.close()

    def _await(self, received: bytearray, size: int) -> None:
        while len(received) < size:
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                raise EOFError("the other side is gone")
            received += chunk


def packed(message: Any) -> bytes:
    """Render a message as one frame.

    Raises:
        Garbled: when it is too large or not plain data.
    """
    try:
        body: bytes = msgpack.packb(message, default=_extension, unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError) as exc:
        raise Garbled(str(exc)) from exc
    if len(body) > FRAME_BOUND:
        raise Garbled(f"a message of {len(body)} bytes, beyond the bound of {FRAME_BOUND}")
    return len(body).to_bytes(_HEADER, "big") + body


def _unpacked(body: bytes) -> Any:
    try:
        return msgpack.unpackb(body, ext_hook=_restored, unicode_errors="surrogatepass")
    except Exception as exc:
        raise Garbled(f"no message of plain data: {type(exc).__name__}: {exc}") from exc


def _extension(value: Any) -> msgpack.ExtType:
    if isinstance(value, int):  # beyond 64 bits; amounts are exact however large they are
        return msgpack.ExtType(_BIG_INTEGER, b"%x" % value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def _restored(code: int, data: bytes) -> int:
    if code != _BIG_INTEGER:
        raise ValueError(f"an extension of type {code}")
    return int(data, 16)
