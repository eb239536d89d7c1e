"""The generic half of the client: any method of the table, called or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from math import inf
from random import uniform
from types import EllipsisType, TracebackType
from typing import Any, Final, Self, TypeVar, overload

from pydantic import ValidationError

from agent_core.client.address import parse_address
from agent_core.client.connection import Connection
from agent_core.client.stream import WINDOW, Stream, misread
from agent_core.contracts.errors import AgentUnreachable, Busy, DeadlineExceeded, from_dict
from agent_core.wire.frames import (
    End,
    Error,
    Frame,
    Item,
    Reply,
    Request,
    encode_cancel,
    encode_request,
)
from agent_core.wire.keys import ClientKeys
from agent_core.wire.methods import PING, Method, find
from agent_core.wire.models import Model
from agent_core.wire.roles import Role

R = TypeVar("R")

Params = Model | Mapping[str, Any] | None
Timeout = float | EllipsisType | None
"""Seconds to wait for an answer, None for ever, ``...`` for the client's own default."""

_GRACE: Final = 0.5
"""Seconds beyond a deadline in which the agent's own word about it may still come."""

_MAX_PAUSE: Final = 10.0
"""Seconds that a busy agent can make a caller wait at most."""

_CONNECT: Final = 2.0
_RETRY: Final = 0.01


class Caller:
    """Calls methods of one agent over one connection, any number at once.

    Args:
        address: ``unix:///path``, ``ipc:///path``, a bare path or ``tcp://host:port``.
        keys: For an agent at a TCP address, unless it is insecure.
        timeout: Seconds to wait for each answer unless a call says otherwise; None for ever.
        connect_timeout: Seconds within which an agent must be found.

    Raises:
        InvalidArgument: when the address is none.
    """

    def __init__(
        self,
        address: str,
        keys: ClientKeys | None = None,
        timeout: float | None = 30.0,
        connect_timeout: float = _CONNECT,
    ) -> None:
        self.address = parse_address(address)
        self._keys = keys
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ids = count(1)
        self._pending: dict[int, asyncio.Future[Any] | Stream] = {}
        self._link: Connection | None = None

    async def __aenter__(self) -> Self:
        """Connect; AgentUnreachable, with the reason, when no agent answers."""
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def connect(self) -> None:
        """Connect and wait for a sign of life.

        Raises:
            AgentUnreachable: when no agent answers at the address, or it refuses the key.
            ProtocolMismatch: when it speaks another version of the protocol.
        """
        self._link = Connection(self.address, self._keys, self._receive, self._fail_all)
        try:
            await self._link.open(self._connect_timeout)
            await self.call(PING, timeout=self._connect_timeout)
        except DeadlineExceeded as exc:
            self.close()
            raise AgentUnreachable(
                f"no agent at {self.address}: something listens there and does not answer",
                details={"address": str(self.address), "reason": "no answer"},
            ) from exc
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what is pending fails."""
        if self._link is not None:
            for request_id in list(self._pending):
                self._link.send(encode_cancel(request_id))
            self._link.close()
        self._fail_all(self._unreachable("this client is closed"))

    @overload
    async def call(
        self, method: Method[R], params: Params = None, *, timeout: Timeout = ...
    ) -> R: ...
    @overload
    async def call(self, method: str, params: Params = None, *, timeout: Timeout = ...) -> Any: ...
    async def call(
        self, method: Method[R] | str, params: Params = None, *, timeout: Timeout = ...
    ) -> R | Any:
        """Call a method that answers once.

        A method that only reads is asked once more, within the same time, when the connection
        breaks meanwhile or the agent is busy and says when to come again.

        Raises:
            AgentUnreachable: when the connection is lost and does not come back.
            DeadlineExceeded: when no answer came in time.
            AgentError: whatever the agent answered.
        """
        known = find(method) if isinstance(method, str) else method
        seconds = self._timeout if timeout is ... else timeout
        data = await self._ask_twice(known, params, seconds)
        try:
            return known.read(data)
        except ValidationError as exc:
            raise misread(known, exc) from exc

    async def stream(
        self, method: Method[Any], params: Params = None, *, timeout: float | None = None
    ) -> Stream:
        """Begin a call that streams; use it with ``async with``, and iterate over it.

        Raises:
            AgentUnreachable: when the agent is not connected.
        """
        request_id = next(self._ids)
        data = _encode(request_id, method, params, timeout, WINDOW)
        stream = Stream(method, request_id, self._post, self._forget)
        self._pending[request_id] = stream
        try:
            await self._send(data)
        except BaseException:
            self._forget(request_id)
            raise
        return stream

    async def _ask_twice(self, method: Method[Any], params: Params, timeout: float | None) -> Any:
        if method.role is not Role.READ:
            return await self._ask(method, params, timeout)
        clock = asyncio.get_running_loop().time
        end = inf if timeout is None else clock() + timeout
        try:
            return await self._ask(method, params, timeout)
        except Busy as exc:
            pause = _pause(exc)
            if pause is None or clock() + pause >= end:
                raise
            await asyncio.sleep(pause)
        except AgentUnreachable:
            if not self._is_open() or clock() >= end:
                raise
        return await self._ask(method, params, None if timeout is None else end - clock())

    async def _ask(self, method: Method[Any], params: Params, timeout: float | None) -> Any:
        request_id = next(self._ids)
        data = _encode(request_id, method, params, timeout, 0)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        timer = None
        if timeout is not None:
            timer = loop.call_later(timeout + _GRACE, _expire, answer, method, timeout)
        self._pending[request_id] = answer
        try:
            if not self._post(data):
                await self._send(data)
            return await answer
        except asyncio.CancelledError:
            self._post(encode_cancel(request_id))
            raise
        finally:
            self._forget(request_id)
            if timer is not None:
                timer.cancel()

    def _is_open(self) -> bool:
        return self._link is not None and not self._link.closed

    def _post(self, data: bytes) -> bool:
        return self._link is not None and self._link.send(data)

    async def _send(self, data: bytes) -> None:
        while not self._post(data):
            link = self._link
            if link is None or link.closed:
                raise self._unreachable("this client is not connected")
            if link.stands:
                await asyncio.sleep(_RETRY)  # the agent does not read as fast as we ask
            else:
                await link.renewed(self._connect_timeout)

    def _receive(self, frame: Frame, size: int) -> None:
        waiting = self._pending.get(frame.id) if frame.id is not None else None
        if isinstance(waiting, Stream):
            _feed(waiting, frame, size)
        elif waiting is not None and not waiting.done():
            _resolve(waiting, frame)

    def _fail_all(self, error: AgentUnreachable) -> None:
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            if isinstance(waiting, Stream):
                waiting.fail(error)
            elif not waiting.done():
                waiting.set_exception(error)

    def _forget(self, request_id: int) -> None:
        self._pending.pop(request_id, None)

    def _unreachable(self, reason: str) -> AgentUnreachable:
        return AgentUnreachable(
            f"no agent at {self.address}: {reason}",
            details={"address": str(self.address), "reason": reason},
        )


def _encode(
    request_id: int, method: Method[Any], params: Params, timeout: float | None, credit: int
) -> bytes:
    content = params.model_dump() if isinstance(params, Model) else dict(params or {})
    return encode_request(Request(request_id, method.name, content, timeout, credit))


def _feed(stream: Stream, frame: Frame, size: int) -> None:
    if isinstance(frame, Item):
        stream.feed(frame.item, size)
    elif isinstance(frame, End):
        stream.end(frame.result)
    elif isinstance(frame, Error):
        stream.fail(from_dict(frame.error))


def _resolve(answer: asyncio.Future[Any], frame: Frame) -> None:
    if isinstance(frame, Reply):
        answer.set_result(frame.result)
    elif isinstance(frame, Error):
        answer.set_exception(from_dict(frame.error))


def _pause(busy: Busy) -> float | None:
    """Say how long to wait before asking a busy agent again; None for not at all."""
    seconds = busy.details.get("retry_after")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_PAUSE:
        return None
    return seconds * uniform(1.0, 1.5)  # noqa: S311 - only so that not all come at once


def _expire(answer: asyncio.Future[Any], method: Method[Any], timeout: float) -> None:
    if not answer.done():
        hint = None if method.goes_on else "Ask again, with more time."
        message = f"the agent did not answer {method.name} within {timeout:g} s"
        answer.set_exception(DeadlineExceeded(message, hint=hint))
