"""Keeps one plugin's worker alive: sees its death, starts it again, and knows when to stop.

    ready -> degraded     it died; the next start is after a delay that doubles
    degraded -> ready     it is open again, with the configuration that it had
    degraded -> quarantined   it died too often in too short a time; only a reset leads out

Whoever listens learns when it has been down for longer than the grace, and when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent_core.contracts.errors import AgentError, WrongState
from agent_core.host.lanes import Lane
from agent_core.host.loader import IMPORT_DEADLINE
from agent_core.host.states import PluginState
from agent_core.host.supervisor import LoadedPlugin
from agent_core.host.worker_adapter import START_TIME, WorkerAdapter
from agent_core.host.worker_process import END_DEADLINE

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """How workers are kept; all times in seconds.

    Attributes:
        memory: Resident bytes beyond which a worker is started again; 0 is without limit.
        first_delay: From the first death to the next start; each further death doubles it.
        longest_delay: What the delay never exceeds.
        crashes: How many deaths within the window quarantine the plugin.
        window: The window; a worker that lived longer than it begins with the first delay again.
        grace: How long a worker may be down before its devices are unknown.
        interval: How often its memory is looked at.
    """

    memory: int = 512 << 20
    first_delay: float = 0.5
    longest_delay: float = 60.0
    crashes: int = 5
    window: float = 120.0
    grace: float = 5.0
    interval: float = 2.0


Listener = Callable[[str, str | None], None]
"""Told, on the loop, a plugin's name and why nothing is known of it; None once it is back."""


class WorkerKeeper:
    """Watches the worker of one open plugin.

    Args:
        plugin: The plugin.
        adapter: Where it lives.
        policy: How it is kept.
        tell: The listener.
    """

    def __init__(
        self, plugin: LoadedPlugin, adapter: WorkerAdapter, policy: WorkerPolicy, tell: Listener
    ) -> None:
        self._plugin = plugin
        self._adapter = adapter
        self._policy = policy
        self._tell = tell
        self._deaths: deque[float] = deque()
        self._in_a_row = 0
        self._restarts = 0
        self._born = time.monotonic()
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        record = plugin.record
        self._lane = Lane(
            "worker", record.name, label=record.label, on_abandoned=self._adapter.overdue
        )
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"keep {record!r}")

    async def end(self) -> None:
        """Stop watching; the worker is left as it is."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._lane.close()
        self._answer()

    async def reset(self) -> None:
        """Lift a quarantine, or a delay, and start the worker at once; returns when it was tried.

        Raises:
            WrongState: when it is neither quarantined nor down.
        """
        record = self._plugin.record
        if not self._plugin.is_down:
            raise WrongState(f"{record.label} is {record.state}: there is nothing to reset")
        self._deaths.clear()
        self._in_a_row = 0
        self._plugin.forgive()
        self._plugin.went_down("reset by an operator; its worker is started again")
        tried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(tried)
        self._hurry.set()
        await tried

    def describe(self) -> dict[str, Any]:
        """Render the worker as plain data."""
        process = self._adapter.process
        return {
            "pid": None if process is None or self._plugin.is_down else process.pid,
            "resident": 0 if process is None else process.resident(),
            "restarts": self._restarts,
            "garbled": self._adapter.garbled,
        }

    async def _keep(self) -> None:
        while True:
            try:
                await self._until_dead()
                await self._bring_back()
            except Exception:  # noqa: BLE001 - whatever it is, a plugin must not lose its keeper
                _log.exception("keeping the worker of %s failed", self._plugin.record.label)
                await asyncio.sleep(self._policy.longest_delay)

    async def _until_dead(self) -> None:
        process = self._adapter.process
        if process is None:
            return
        loop, dead = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(process.pidfd, dead.set)
        try:
            while not await _within(self._policy.interval, dead):
                size = process.resident()
                if 0 < self._policy.memory < size:
                    process.kill(f"it grew to {size >> 20} MiB, beyond {self._policy.memory >> 20}")
        finally:
            loop.remove_reader(process.pidfd)

    async def _bring_back(self) -> None:
        loop = asyncio.get_running_loop()
        reason = f"its worker {await self._ended()}"
        grace = loop.call_later(self._policy.grace, self._unknown)
        try:
            while True:
                await self._pause(reason)
                try:
                    await self._start_again()
                except AgentError as exc:
                    reason = str(exc.details.get("reason", exc.message))
                else:
                    break
                finally:
                    self._answer()
        finally:
            grace.cancel()
        self._born = time.monotonic()
        self._restarts += 1
        self._plugin.came_back(f"restart {self._restarts}")
        self._tell(self._plugin.record.name, None)

    async def _ended(self) -> str:
        try:
            return str(await self._lane.call(self._adapter.end, "end", 2 * END_DEADLINE))
        except AgentError as exc:
            return f"cannot be ended: {exc.message}"

    async def _start_again(self) -> None:
        seconds = self._plugin.deadline("open")
        bound = IMPORT_DEADLINE + START_TIME + seconds + 2 * END_DEADLINE
        again = lambda: self._adapter.start_again(seconds)  # noqa: E731 - a lane takes an action without arguments
        await self._lane.call(again, "open", bound)

    async def _pause(self, reason: str) -> None:
        delay = self._delay(reason)
        if delay is None:
            self._unknown()
        self._hurry.clear()
        await _within(delay, self._hurry)

    def _delay(self, reason: str) -> float | None:
        """Judge one more death: the seconds to the next start, or None for a quarantine."""
        now, policy = time.monotonic(), self._policy
        if now - self._born > policy.window:
            self._in_a_row = 0
        self._in_a_row += 1
        self._deaths.append(now)
        while now - self._deaths[0] > policy.window:
            self._deaths.popleft()
        if self._plugin.record.state is PluginState.QUARANTINED:
            self._plugin.is_down = True
            return None
        if len(self._deaths) >= policy.crashes:
            self._plugin.went_down(reason, quietly=True)
            self._plugin.give_up(f"{reason}; {len(self._deaths)} times in {policy.window:g} s")
            return None
        delay = min(policy.first_delay * 2 ** (self._in_a_row - 1), policy.longest_delay)
        self._plugin.went_down(f"{reason}; the next start is in {delay:g} s")
        return float(delay)

    def _unknown(self) -> None:
        self._tell(self._plugin.record.name, self._plugin.record.reason)

    def _answer(self) -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(None)
        self._waiting.clear()


async def _within(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait for an event; whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
