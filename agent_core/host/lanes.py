"""A lane: the threads that one plugin's synchronous calls run in, with a deadline for each call.

The event loop never waits for a thread. A call that passes its deadline is abandoned: its caller
gets `PluginTimeout`, its thread is left to itself and counted, and a new thread serves the next
call. A lane belongs to the loop that calls it; only the plugin's own code runs in its threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

from agent_core.contracts.errors import AgentError, PluginError, PluginTimeout
from agent_core.host.failures import said

WAIT_LIMIT: Final = 60.0
"""Seconds that a call may wait for those before it in its lane."""


@dataclass(slots=True)
class LaneStatistics:
    """What became of a lane's calls so far; seconds are of calls that returned."""

    calls: int = 0
    failed: int = 0
    abandoned: int = 0
    turned_away: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    last_error: str = ""


class _Call:
    __slots__ = ("abandoned", "action", "began", "deadline", "future", "method", "timer")

    def __init__(
        self,
        action: Callable[[], Any],
        method: str,
        deadline: float,
        future: asyncio.Future[Any],
    ) -> None:
        self.action = action
        self.method = method
        self.deadline = deadline
        self.future = future
        self.began = 0.0
        self.abandoned = False
        self.timer: asyncio.TimerHandle | None = None

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Worker:
    """One thread, taking calls from its own queue until it is told to end."""

    __slots__ = ("queue",)

    def __init__(self, name: str, deliver: Callable[[_Worker, _Call, Any, Any], None]) -> None:
        self.queue: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._work, args=(deliver,), name=name, daemon=True).start()

    def _work(self, deliver: Callable[[_Worker, _Call, Any, Any], None]) -> None:
        while (call := self.queue.get()) is not None:
            result, error = None, None
            try:
                result = call.action()
            except BaseException as exc:  # noqa: BLE001 - a plugin may raise anything, SystemExit included, and only its caller shall know
                error = exc
            deliver(self, call, result, error)
            del call, result, error


class Lane:
    """Runs a plugin's calls one after another, or up to `concurrency` at once.

    Args:
        name: The lane's name, such as ``control``.
        plugin: The plugin's name.
        label: The plugin as messages name it; by default its name.
        concurrency: How many calls may run at once.
        on_abandoned: Called on the loop with the method of every call that was abandoned.
        on_returned: Called on the loop whenever a call came back in time.
    """

    def __init__(
        self,
        name: str,
        plugin: str,
        *,
        label: str = "",
        concurrency: int = 1,
        on_abandoned: Callable[[str, float], None] = lambda _method, _deadline: None,
        on_returned: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.label = label or plugin
        self.concurrency = concurrency
        self.statistics = LaneStatistics()
        self.stuck = 0
        self.overdue_in_a_row = 0
        self._on_abandoned = on_abandoned
        self._on_returned = on_returned
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Call] = deque()
        self._running: set[_Call] = set()
        self._idle: list[_Worker] = []
        self._closed = False

    async def call(self, action: Callable[[], Any], method: str, deadline: float) -> Any:
        """Run `action` in the lane and return what it returns.

        The deadline counts from when the call begins; waiting for those before it has a bound of
        its own. A caller that goes away does not stop a call that has begun.

        Raises:
            PluginTimeout: when the call passed its deadline, or waited too long to begin.
            PluginError: when the plugin raised; the plugin's exception is the cause.
            AgentError: when the plugin raised one, unchanged.
        """
        if self._closed:
            raise PluginError(f"{self.label} is closed", plugin=self.plugin, stage=method)
        loop = self._loop = asyncio.get_running_loop()
        call = _Call(action, method, deadline, loop.create_future())
        self._waiting.append(call)
        self._start_waiting(loop)
        if not call.began:
            call.timer = loop.call_later(WAIT_LIMIT, self._turn_away, call)
        return await call.future

    def describe(self) -> dict[str, Any]:
        """Render the lane and its statistics as plain data."""
        s = self.statistics
        return {
            "lane": self.name,
            "concurrency": self.concurrency,
            "running": [call.method for call in self._running],
            "waiting": len(self._waiting),
            "stuck": self.stuck,
            "calls": s.calls,
            "failed": s.failed,
            "abandoned": s.abandoned,
            "turned_away": s.turned_away,
            "mean_ms": round(s.seconds / s.calls * 1000, 3) if s.calls else None,
            "slowest_ms": round(s.slowest * 1000, 3),
            "last_error": s.last_error,
        }

    def close(self) -> None:
        """End the idle threads and refuse what waits; calls that run end by themselves."""
        self._closed = True
        self.refuse_waiting("was closed")
        while self._idle:
            self._idle.pop().queue.put(None)

    def refuse_waiting(self, why: str) -> None:
        """Fail every call that has not begun, so that none of them finds another stuck thread."""
        while self._waiting:
            call = self._waiting.popleft()
            call.disarm()
            what = f"{self.label} {why} before {call.method}() began"
            _fail(call, PluginError(what, plugin=self.plugin, stage=call.method))

    def _start_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and len(self._running) < self.concurrency:
            call = self._waiting.popleft()
            call.disarm()
            if call.future.done():
                continue
            worker = self._idle.pop() if self._idle else self._new_worker()
            self._running.add(call)
            call.began = time.perf_counter()
            call.timer = loop.call_later(call.deadline, self._abandon, call)
            worker.queue.put(call)

    def _new_worker(self) -> _Worker:
        return _Worker(f"{self.label} {self.name}", self._deliver)

    def _deliver(self, worker: _Worker, call: _Call, result: Any, error: Any) -> None:
        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._returned, worker, call, result, error)
        except RuntimeError:
            worker.queue.put(None)  # the loop is closed: nobody waits any more

    def _returned(self, worker: _Worker, call: _Call, result: Any, error: Any) -> None:
        if call.abandoned:
            self.stuck -= 1
            worker.queue.put(None)
            return
        call.disarm()
        self._running.discard(call)
        self._count(call, error)
        if self._closed:
            worker.queue.put(None)
        else:
            self._idle.append(worker)
            self._start_waiting(asyncio.get_running_loop())
        self.overdue_in_a_row = 0
        self._on_returned()
        if error is not None:
            _fail(call, self._translated(call, error))
        elif not call.future.done():
            call.future.set_result(result)

    def _count(self, call: _Call, error: BaseException | None) -> None:
        seconds = time.perf_counter() - call.began
        self.statistics.calls += 1
        self.statistics.seconds += seconds
        self.statistics.slowest = max(self.statistics.slowest, seconds)
        if error is not None:
            self.statistics.failed += 1
            self.statistics.last_error = f"{call.method}(): {said(error)}"

    def _translated(self, call: _Call, error: BaseException) -> AgentError:
        if isinstance(error, AgentError):
            return error
        failure = PluginError(
            f"{self.label} failed in {call.method}(): {said(error)}",
            plugin=self.plugin,
            stage=call.method,
        )
        failure.__cause__ = error
        return failure

    def _abandon(self, call: _Call) -> None:
        call.abandoned = True
        self._running.discard(call)
        self.stuck += 1
        self.overdue_in_a_row += 1
        self.statistics.abandoned += 1
        self.statistics.last_error = f"{call.method}(): still busy after {call.deadline:g} s"
        _fail(call, self._overdue(call))
        self._on_abandoned(call.method, call.deadline)
        if not self._closed:
            self._start_waiting(asyncio.get_running_loop())

    def _overdue(self, call: _Call) -> PluginTimeout:
        return PluginTimeout(
            f"{self.label} is still in {call.method}() after {call.deadline:g} s",
            plugin=self.plugin,
            stage=call.method,
        )

    def _turn_away(self, call: _Call) -> None:
        if call.future.done():
            return
        self._waiting.remove(call)
        self.statistics.turned_away += 1
        busy = ", ".join(f"{running.method}()" for running in self._running)
        _fail(
            call,
            PluginTimeout(
                f"{call.method}() of {self.label} waited {WAIT_LIMIT:g} s behind {busy}",
                plugin=self.plugin,
                stage=call.method,
            ),
        )


def _fail(call: _Call, error: AgentError) -> None:
    if not call.future.done():
        call.future.set_exception(error)
