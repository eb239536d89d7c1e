"""The frames of the RPC: what they are, and how hostile bytes become them.

A frame is one ZeroMQ message part with one msgpack array in it. The first three items are always
the protocol's version, the kind and the id of the request that the frame belongs to:

    [1, "request", id, method, params, timeout, credit]   client to agent
    [1, "cancel",  id]                                    client to agent
    [1, "credit",  id, bytes]                             client to agent; 0 bytes either way
    [1, "reply",   id, result]                            agent to client
    [1, "item",    id, item]                              agent to client, streams only
    [1, "end",     id, result or nil]                     agent to client, streams only
    [1, "error",   id or nil, {code, message, hint, retryable, details}]

Ids are chosen by the client, ascending from 1 on each connection. `timeout` is how many seconds the
caller will wait, or nil. A stream sends items as long as it has credit: each costs the length of
its frame, and the client gives more as it consumes them. A credit of 0 bytes does nothing; the
agent sends it to see whether a quiet client is still there. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack  # type: ignore[import-untyped] # it ships no types

from agent_core.contracts.errors import AgentError, MalformedFrame, ProtocolMismatch
from agent_core.contracts.versions import RPC_PROTOCOL

MAX_MESSAGE: Final = 4 << 20
"""Bytes of the longest frame, in either direction."""

MAX_ID: Final = (1 << 63) - 1
MAX_CREDIT: Final = 16 << 20
"""Bytes of credit that one stream can have at most."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call of a method; `credit` is what a stream may send at once, in bytes."""

    id: int
    method: str
    params: Mapping[str, Any]
    timeout: float | None = None
    credit: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a call."""

    id: int
    result: Any


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a stream."""

    id: int
    item: Any


@dataclass(frozen=True, slots=True)
class End:
    """The end of a stream, with its result where the method has one."""

    id: int
    result: Any = None


@dataclass(frozen=True, slots=True)
class Error:
    """A call or a stream has failed; without an id when the request's could not be read."""

    id: int | None
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client no longer wants the answer."""

    id: int


@dataclass(frozen=True, slots=True)
class Credit:
    """The client can take this many more bytes of a stream."""

    id: int
    amount: int


Frame = Request | Reply | Item | End | Error | Cancel | Credit


def encode_request(request: Request) -> bytes:
    """Render a request; MalformedFrame when it is too long or holds what msgpack cannot."""
    return _pack(
        request.id,
        "request",
        request.method,
        request.params,
        request.timeout,
        request.credit,
    )


def encode_reply(id_: int, result: object) -> bytes:
    """Render a reply; MalformedFrame when it is too long or holds what msgpack cannot."""
    return _pack(id_, "reply", result)


def encode_item(id_: int, item: object) -> bytes:
    """Render an item; MalformedFrame when it is too long or holds what msgpack cannot."""
    return _pack(id_, "item", item)


def encode_end(id_: int, result: object = None) -> bytes:
    """Render the end of a stream; MalformedFrame when the result cannot be rendered."""
    return _pack(id_, "end", result)


def encode_error(id_: int | None, error: AgentError) -> bytes:
    """Render an error; details that cannot be rendered are left out, so that this never fails."""
    try:
        return _pack(id_, "error", error.to_dict())
    except MalformedFrame:
        bare = {**error.to_dict(), "message": error.message[:4096], "details": {}}
        return _pack(id_, "error", bare)


def encode_cancel(id_: int) -> bytes:
    """Render a cancel."""
    return _pack(id_, "cancel")


def encode_credit(id_: int, amount: int) -> bytes:
    """Render a credit."""
    return _pack(id_, "credit", amount)


def decode(data: bytes) -> Frame:
    """Read one frame from bytes that nobody vouches for.

    Raises:
        MalformedFrame: with ``details.id`` where the id of the request could be read.
        ProtocolMismatch: when it is of another version of the protocol; likewise.
    """
    parts = _unpack(data)
    version, kind, id_ = parts[0], parts[1], parts[2]
    if type(version) is not int or version != RPC_PROTOCOL:
        raise ProtocolMismatch(
            f"the frame is of RPC protocol {_show(version)}, and this side speaks {RPC_PROTOCOL}",
            details={"supported": [RPC_PROTOCOL], **_readable_id(id_)},
        )
    reader = _READERS.get(kind) if type(kind) is str else None
    if reader is None:
        raise MalformedFrame(f"unknown kind of frame {_show(kind)}", details=_readable_id(id_))
    if not _is_id(id_) and not (id_ is None and kind == "error"):
        raise MalformedFrame(f"{_show(id_)} is not the id of a request")
    try:
        return reader(id_, *parts[3:])
    except TypeError as exc:
        raise MalformedFrame(
            f"a {kind} frame does not have {len(parts)} items", details=_readable_id(id_)
        ) from exc
    except ValueError as exc:
        raise MalformedFrame(
            f"a {kind} frame has wrong content: {exc}", details=_readable_id(id_)
        ) from exc


def _pack(id_: int | None, kind: str, *content: object) -> bytes:
    try:
        data: bytes = msgpack.packb((RPC_PROTOCOL, kind, id_, *content))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise MalformedFrame(
            f"the {kind} frame holds something that cannot be sent: {exc}",
            hint="Send plain data: mappings, lists, text, bytes and numbers of up to 64 bits.",
        ) from exc
    if len(data) > MAX_MESSAGE:
        raise MalformedFrame(
            f"the {kind} frame is {len(data)} bytes long and {MAX_MESSAGE} are the most",
            hint="Send or ask for less at once.",
            details={"bytes": len(data), "limit": MAX_MESSAGE},
        )
    return data


def _unpack(data: bytes) -> list[Any]:
    if len(data) > MAX_MESSAGE:
        raise MalformedFrame(f"the frame is {len(data)} bytes long, and {MAX_MESSAGE} are the most")
    try:
        parts = msgpack.unpackb(data, ext_hook=_refuse_extension)
    except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as exc:
        raise MalformedFrame(f"the frame is not msgpack: {exc}") from exc
    if type(parts) is not list or len(parts) < 3:
        raise MalformedFrame("the frame is not an array of a version, a kind and an id")
    return parts


def _refuse_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not used here")


def _is_id(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_ID


def _readable_id(value: object) -> dict[str, Any]:
    return {"id": value} if _is_id(value) else {}


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_request(
    id_: int, method: object, params: object, timeout: object, credit: object
) -> Request:
    if type(method) is not str or not 0 < len(method) <= 64:
        raise ValueError("the method is not a name of 1 to 64 characters")
    if type(params) is not dict or not all(type(name) is str for name in params):
        raise ValueError("the parameters are not a mapping from names")
    return Request(id_, method, params, _seconds(timeout), _amount(credit))


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float):
        raise ValueError("the timeout is not a number of seconds")
    seconds = float(value)  # type: ignore[arg-type] # an int or a float by the line above
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("the timeout is not a positive number of seconds")
    return seconds


def _amount(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_CREDIT:
        raise ValueError(f"the credit is not a number of bytes from 0 to {MAX_CREDIT}")
    return value


def _read_error(id_: int | None, error: object) -> Error:
    if type(error) is not dict or not all(type(name) is str for name in error):
        raise ValueError("the error is not a mapping from names")
    return Error(id_, error)


def _read_credit(id_: int, amount: object) -> Credit:
    return Credit(id_, _amount(amount))


_READERS: Final[Mapping[str, Callable[..., Frame]]] = {
    "request": _read_request,
    "reply": Reply,
    "item": Item,
    "end": End,
    "error": _read_error,
    "cancel": Cancel,
    "credit": _read_credit,
}
