"""Frames: a 4-byte big-endian length and that many bytes of JSON."""

from __future__ import annotations

# The C encoder itself: importing json before the hello would cost a third of the start.
from _json import encode_basestring_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_FRAME = 1 << 20
"""Bytes of the longest JSON text that crosses the agent's socket."""

MAX_CONTROL_FRAME = 8 << 20
"""Bytes of the longest JSON text for an interpreter: code may grow by being escaped."""

_HEADER = 4
_INFINITE = float("inf")


class FrameError(Exception):
    """Raised when bytes are no frame of the protocol, or a message is too long for one."""


def encode(message: Mapping[str, Any], limit: int = MAX_FRAME) -> bytes:
    """Frame one message of strings, numbers, booleans, None, lists and objects.

    Raises:
        FrameError: when it is longer than `limit` bytes.
    """
    body = _render(message).encode("ascii")
    if len(body) > limit:
        raise FrameError(f"a message of {len(body)} bytes is longer than {limit}")
    return len(body).to_bytes(_HEADER, "big") + body


def _render(value: object) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and abs(value) < _INFINITE:
        return float.__repr__(value)
    if isinstance(value, dict):
        items = (f"{_render(str(key))}:{_render(item)}" for key, item in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_render, value)) + "]"
    raise FrameError(f"a {type(value).__name__} has no place in a message")


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take received bytes; return the messages that they complete.

        Raises:
            FrameError: when a frame is too long, or no JSON object with a string as its type.
        """
        self._buffer += data
        messages = []
        while (body := self._take()) is not None:
            messages.append(_parse(body))
        return messages

    def _take(self) -> bytes | None:
        if len(self._buffer) < _HEADER:
            return None
        length = int.from_bytes(self._buffer[:_HEADER], "big")
        if length > self._limit:
            raise FrameError(f"a frame of {length} bytes is longer than {self._limit}")
        end = _HEADER + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER:end])
        del self._buffer[:end]
        return body


def _parse(body: bytes) -> dict[str, Any]:
    import json

    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise FrameError(f"a frame of {len(body)} bytes is not JSON: {exc}") from exc
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise FrameError(f"a frame of {len(body)} bytes is no object with a type")
    return message
