"""Asking the backend: never without a deadline, and whatever goes wrong is one of our errors."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent_core.contracts.errors import AgentError, PluginError, PluginTimeout
from agent_core.kernels.begun import Begun

if TYPE_CHECKING:
    from agent_core.kernels.services import Services

T = TypeVar("T")

_END: Final = object()


async def ask(services: Services, answer: Awaitable[T], method: str, *, extra: float = 0.0) -> T:
    """Await what a method of the backend returned.

    Args:
        services: Names the backend and the deadline of one call, where the backend's own
            declaration has no other for the method.
        answer: What the method returned.
        method: Its name, for messages.
        extra: Seconds beyond the usual deadline that the method was told to take.

    Raises:
        PluginTimeout: when it passed its deadline; it was cancelled.
        PluginError: when it raised; the backend's exception is the cause.
        AgentError: when it raised one, unchanged.
    """
    usual = services.backend.info.deadlines.get(method, services.settings.call_timeout)
    return await _bounded(services, answer, method, usual + extra)


async def items(
    services: Services, stream: AsyncIterator[T], method: str, *, endless: bool = False
) -> AsyncGenerator[T, None]:
    """Yield what a stream of the backend yields, and close it.

    Each item has the deadline of one call, unless the stream is `endless`: then it may rest.

    Raises:
        AgentError: as `ask`.
    """
    seconds = math.inf if endless else services.settings.call_timeout
    try:
        while True:
            item: Any = await _bounded(services, anext(stream, _END), method, seconds)
            if item is _END:
                return
            yield item
    finally:
        await _close(services, stream, method)


async def _bounded(services: Services, answer: Awaitable[T], method: str, seconds: float) -> T:
    name = services.backend.info.name
    bound = asyncio.timeout(seconds)
    try:
        begun = Begun(answer)
        if begun.is_done:
            return begun.result()
        async with bound:
            return await begun
    except AgentError:
        raise
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        what = f"backend {name!r} gave {method}() up from inside"
        raise PluginError(what, plugin=name, stage=method) from exc
    except (Exception, SystemExit) as exc:
        if bound.expired() and isinstance(exc, TimeoutError):
            what = f"backend {name!r} is still in {method}() after {seconds:g} s"
            raise PluginTimeout(what, plugin=name, stage=method) from exc
        what = f"backend {name!r} failed in {method}(): {type(exc).__name__}: {exc}"
        raise PluginError(what, plugin=name, stage=method) from exc


async def _close(services: Services, stream: AsyncIterator[Any], method: str) -> None:
    # What was not read to its end is not read again: that it does not close is no news.
    if (close := getattr(stream, "aclose", None)) is not None:
        with contextlib.suppress(AgentError):
            await _bounded(services, close(), method, services.settings.call_timeout)
