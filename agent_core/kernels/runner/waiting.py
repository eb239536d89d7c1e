"""A run that a caller waits for, and how long it can be made to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.errors import AgentError
from agent_core.contracts.runner import RunStatus
from agent_core.kernels.runner.messages import Report

OVERRUN: Final = 10.0
"""Seconds beyond its timeout after which a run ends for its caller, whatever its runner does."""

_LOOKS: Final = 30


class WaitingRun:
    """One run and the reports that its caller has not read; the link bounds how many.

    The runner ends a run at its timeout. One that is stopped, or is none, never would: so the
    caller is told of the timeout anyway, `OVERRUN` later. A caller that has not read everything is
    itself what the end waits for, and has that much time again, and again.

    Args:
        message: What the runner is asked.
        timeout: Seconds of running; None for none.
    """

    def __init__(self, message: Mapping[str, Any], timeout: float | None) -> None:
        self.message = message
        self.sent_to: str | None = None
        self.queue: asyncio.Queue[Report | AgentError] = asyncio.Queue()
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0

    @property
    def run_id(self) -> str:
        """Its id."""
        return str(self.message["run_id"])

    @property
    def asks(self) -> str:
        """What is asked: the type of its message."""
        return str(self.message["type"])

    def lose(self, status: RunStatus) -> None:
        """End it for its caller, without a word from the runner."""
        self.queue.put_nowait(Report(0, self.run_id, None, status))

    def begin(self) -> None:
        """Let its time run, from the first call on: nothing is known to be before it."""
        if self._timeout is not None and self._timer is None:
            self._look_after(self._timeout + OVERRUN)

    def _look_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._looks += 1
        if self.queue.empty() or self._looks == _LOOKS:
            self.lose(RunStatus.TIMEOUT)
        else:
            self._look_after(OVERRUN)

    def close(self) -> None:
        """Let no time run any more."""
        if self._timer is not None:
            self._timer.cancel()
