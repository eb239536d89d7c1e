"""One request in flight: its task, its deadline and, for a stream, its credit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, cast

from agent_core.contracts.errors import AgentError, DeadlineExceeded, InternalError
from agent_core.server.counters import Counters
from agent_core.server.peers import Peer
from agent_core.wire import models as m
from agent_core.wire.frames import (
    MAX_CREDIT,
    Request,
    encode_end,
    encode_error,
    encode_item,
    encode_reply,
)
from agent_core.wire.methods import Method

log = logging.getLogger(__name__)

_BURST: Final = 128 << 10
"""Bytes that one stream sends before other work of the loop gets its turn."""

_CLOSING: Final = 10.0
"""Seconds that an abandoned stream's source has to clean up."""


class Call:
    """Runs one call as a task of its own and answers it exactly once.

    The caller may give up (`abandon`) or its deadline may pass; a method that goes on then does so
    unheard, and any other is cancelled.
    """

    __slots__ = (
        "_answered",
        "_began",
        "_burst",
        "_counters",
        "_credit",
        "_ended",
        "_id",
        "_peer",
        "_room",
        "_task",
        "_timer",
        "_work",
        "method",
    )

    def __init__(
        self,
        peer: Peer,
        request: Request,
        method: Method[Any],
        counters: Counters,
        ended: Callable[[Call], None],
    ) -> None:
        self.method = method
        self._id = request.id
        self._peer = peer
        self._counters = counters
        self._ended = ended
        self._credit = request.credit
        self._burst = 0
        self._room: asyncio.Future[None] | None = None
        self._answered = False
        self._began = time.perf_counter()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._work: object = None

    def begin(self, work: object, timeout: float | None) -> None:
        """Start the task; `work` is a coroutine or, for a stream, an iterator of its items."""
        loop = asyncio.get_running_loop()
        self._work = work
        self._peer.calls[self._id] = self
        self._task = loop.create_task(self._run(work), name=f"rpc {self.method.name}")
        self._task.add_done_callback(self._end)
        if timeout is not None:
            self._timer = loop.call_later(timeout, self._expire, timeout)

    def grant(self, amount: int) -> None:
        """Let the stream send this many more bytes."""
        self._credit = min(self._credit + amount, MAX_CREDIT)
        self.wake()

    def wake(self) -> None:
        """Let the stream look again whether it may send."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def abandon(self, error: AgentError | None = None) -> None:
        """Answer no more than this error; cancel the work unless it goes on."""
        self._fail(error)
        if not self.method.goes_on:
            self.cancel()

    def cancel(self) -> None:
        """Cancel the work, also where it would go on."""
        if self._task is not None:
            self._task.cancel()

    async def wait(self) -> None:
        """Wait until the work has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, work: object) -> None:
        try:
            if self.method.item is not None:
                data = await self._stream(cast("AsyncIterator[m.Model]", work))
            else:
                result = await cast("Awaitable[object]", work)
                data = encode_reply(self._id, self.method.render(result))
        except asyncio.CancelledError:
            self._fail(InternalError(f"{self.method.name} was cancelled in the agent"))
            raise
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - and a plugin's exit is not the agent's
            self._fail(as_agent_error(exc, self.method, self._counters))
        else:
            self._answer(data, None)

    async def _stream(self, items: AsyncIterator[m.Model]) -> bytes:
        try:
            async for item in items:
                if isinstance(item, self.method.result):
                    return encode_end(self._id, self.method.render(item))
                await self._send_item(encode_item(self._id, item.model_dump()))
        finally:
            await _close(items)
        if self.method.result is not m.Done:
            raise InternalError(f"{self.method.name} ended without a result")
        return encode_end(self._id)

    async def _send_item(self, data: bytes) -> None:
        self._burst += len(data)
        if self._burst > _BURST:  # a source that never waits must not keep the loop
            self._burst = 0
            await asyncio.sleep(0)
        while self._credit <= 0 or self._peer.congested:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        self._credit -= len(data)
        self._peer.send(data)

    def _expire(self, timeout: float) -> None:
        hint = None if self.method.goes_on else "Ask again, with more time."
        message = f"{self.method.name} did not end within {timeout:g} s"
        self.abandon(DeadlineExceeded(message, hint=hint))

    def _fail(self, error: AgentError | None) -> None:
        if error is None:
            self._answer(None, "abandoned")
        else:
            self._answer(encode_error(self._id, error), error.code)

    def _answer(self, data: bytes | None, code: str | None) -> None:
        if self._answered:
            return
        self._answered = True
        self._counters.method(self.method.name).end(time.perf_counter() - self._began, code)
        if data is not None:
            self._peer.send(data)

    def _end(self, _task: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if isinstance(self._work, Coroutine):
            self._work.close()  # a task cancelled before its first step never awaited it
        self._peer.calls.pop(self._id, None)
        self._ended(self)


def as_agent_error(error: BaseException, method: Method[Any], counters: Counters) -> AgentError:
    """Return a typed error as it is; count and log any other, and say only that it happened."""
    if isinstance(error, AgentError):
        return error
    counters.defects += 1
    log.error("%s failed in an unforeseen way", method.name, exc_info=error)
    return InternalError(f"{method.name} failed in the agent: {type(error).__name__}")


async def _close(items: object) -> None:
    close = getattr(items, "aclose", None)
    if close is None:
        return
    try:
        async with asyncio.timeout(_CLOSING):
            await close()
    except TimeoutError:
        log.warning("the source of an abandoned stream did not close within %g s", _CLOSING)
