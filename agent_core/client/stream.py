"""A stream of items from an agent, given credit as it is consumed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from pydantic import ValidationError

from agent_core.contracts.errors import AgentError, ProtocolMismatch
from agent_core.wire import models as m
from agent_core.wire.frames import encode_cancel, encode_credit
from agent_core.wire.methods import Method

WINDOW: Final = 1 << 20
"""Bytes of items that an agent may send ahead of their consumption."""

_AGAIN: Final = 0.05


class Stream:
    """The items of one streaming call, in order; `result` is there once it has ended.

    Leaving it early, by `aclose` or the end of ``async with``, cancels it in the agent.
    """

    def __init__(
        self,
        method: Method[Any],
        request_id: int,
        send: Callable[[bytes], bool],
        forget: Callable[[int], object],
    ) -> None:
        self.result: m.Model | None = None
        self._method = method
        self._id = request_id
        self._send = send
        self._forget = forget
        self._items: deque[tuple[object, int]] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._error: AgentError | None = None
        self._ended = False
        self._consumed = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> m.Model:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        item, size = self._items.popleft()
        self._consumed += size
        if self._consumed >= WINDOW // 2:
            self._grant()
        return self._model(item)

    async def aclose(self) -> None:
        """Stop: an agent that still sends is told to; does nothing after the end."""
        self._forget(self._id)
        if not self._ended:
            self._ended = True
            self._send(encode_cancel(self._id))
        self._items.clear()
        self._wake()

    def feed(self, item: object, size: int) -> None:
        """Take an item that arrived in a frame of `size` bytes."""
        self._items.append((item, size))
        self._wake()

    def end(self, result: object) -> None:
        """Take the end of the stream, with its result where the method has one."""
        self._ended = True
        self._forget(self._id)
        try:
            if self._method.result is not m.Done:
                self.result = self._method.read(result)
        except ValidationError as exc:
            self._error = misread(self._method, exc)
        self._wake()

    def fail(self, error: AgentError) -> None:
        """Take an error; it is raised after the items that came before it."""
        self._ended = True
        self._error = error
        self._forget(self._id)
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _grant(self) -> None:
        if self._ended or not self._consumed:
            return
        if self._send(encode_credit(self._id, self._consumed)):
            self._consumed = 0
        else:
            asyncio.get_running_loop().call_later(_AGAIN, self._grant)

    def _model(self, item: object) -> m.Model:
        model = self._method.item
        assert model is not None  # noqa: S101 - only streaming methods have streams
        try:
            return model.model_validate(item)
        except ValidationError as exc:
            raise misread(self._method, exc) from exc


def misread(method: Method[Any], error: ValidationError) -> ProtocolMismatch:
    """Say that the agent's answer has another shape than this client knows."""
    where = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
    return ProtocolMismatch(
        f"the agent answered {method.name} in a form that this client does not know: {where}"
    )
