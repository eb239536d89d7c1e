"""ZMTP 3.0, the protocol of ZeroMQ on the wire: bytes into messages and back, without any socket.

As much of it as the client of a Jupyter kernel needs: the mechanism NULL, and any socket type whose
messages are sent and received as they are.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GREETING_SIZE = 64
_MORE, _LONG, _COMMAND = 1, 2, 4
_PARTS = 1000

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""What each side sends first: signature, version 3.0, mechanism, and that it is no server."""

SUBSCRIBE_TO_ALL = b"\x01"
"""The message by which a subscriber asks for every topic."""


class ProtocolError(Exception):
    """Raised when bytes are no ZMTP, or a message is longer than it may be."""


class Command:
    """A command of the protocol itself, such as READY."""

    __slots__ = ("body", "name")

    def __init__(self, name: bytes, body: bytes) -> None:
        self.name = name
        self.body = body


def message(parts: Sequence[bytes]) -> bytes:
    """Encode one message."""
    last = len(parts) - 1
    return b"".join(
        _frame(_MORE if number < last else 0, part) for number, part in enumerate(parts)
    )


def command(name: bytes, body: bytes) -> bytes:
    """Encode one command."""
    return _frame(_COMMAND, bytes([len(name)]) + name + body)


def ready(properties: Mapping[str, bytes]) -> bytes:
    """Encode the command that ends the handshake, with what this side says of itself."""
    body = b""
    for name, value in properties.items():
        body += bytes([len(name)]) + name.encode() + len(value).to_bytes(4, "big") + value
    return command(b"READY", body)


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | _LONG]) + len(body).to_bytes(8, "big") + body


class Decoder:
    """Cuts what the other side sends into commands and messages.

    Args:
        limit: Bytes of the longest message to accept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._greeted = False
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Command | list[bytes]]:
        """Take received bytes; return what they complete.

        Raises:
            ProtocolError: when this is no ZMTP 3, or too long.
        """
        self._buffer += data
        if not self._greeted and not self._greet():
            return []
        found: list[Command | list[bytes]] = []
        while (frame := self._take()) is not None:
            flags, body = frame
            if flags & _COMMAND:
                found.append(_command(body))
            elif (parts := self._collect(flags, body)) is not None:
                found.append(parts)
        return found

    def _greet(self) -> bool:
        head = bytes(self._buffer[:_GREETING_SIZE])
        if head[:1] not in {b"", b"\xff"} or head[9:10] not in {b"", b"\x7f"}:
            raise ProtocolError("the other side does not speak ZMTP")
        if len(head) < _GREETING_SIZE:
            return False
        if head[10] < 3 or head[12:32].rstrip(b"\0") != b"NULL":
            raise ProtocolError("the other side speaks another version or mechanism of ZMTP")
        del self._buffer[:_GREETING_SIZE]
        self._greeted = True
        return True

    def _take(self) -> tuple[int, bytes] | None:
        """Take one frame: its flags and its body."""
        buffer = self._buffer
        if not buffer:
            return None
        flags, width = buffer[0], 8 if buffer[0] & _LONG else 1
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise ProtocolError(f"a frame has the flags {flags:#x}")
        if len(buffer) <= width:
            return None
        start = 1 + width
        size = int.from_bytes(buffer[1:start], "big")
        if self._size + size > self._limit:
            raise ProtocolError(f"a message is longer than {self._limit} bytes")
        if len(buffer) < start + size:
            return None
        body = bytes(memoryview(buffer)[start : start + size])
        del buffer[: start + size]
        return flags, body

    def _collect(self, flags: int, body: bytes) -> list[bytes] | None:
        """Add a part to the message under way; return the message when it was the last."""
        self._parts.append(body)
        self._size += len(body)
        if len(self._parts) > _PARTS:
            raise ProtocolError(f"a message has more than {_PARTS} parts")
        if flags & _MORE:
            return None
        parts, self._parts, self._size = self._parts, [], 0
        return parts


def _command(body: bytes) -> Command:
    length = body[0] if body else 0
    if not length or len(body) < 1 + length:
        raise ProtocolError("a command has no name")
    return Command(body[1 : 1 + length], body[1 + length :])
