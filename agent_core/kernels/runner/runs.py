"""The runs of one kernel: each report finds its caller, and what nobody takes is dropped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agent_core.contracts.errors import AgentError, Conflict, KernelFailed, RunnerUnavailable
from agent_core.contracts.runner import RunStatus
from agent_core.kernels.runner.link import RunnerLink
from agent_core.kernels.runner.messages import Hello, Report
from agent_core.wire.models import ExecuteCode, OutputItem, RunResult

_RECONNECT_DEADLINE = 10.0


class _Run:
    """What one caller waits for; the link's credit bounds what is queued."""

    __slots__ = ("message", "queue", "run_id", "sent_to")

    def __init__(self, run_id: str, message: Mapping[str, object]) -> None:
        self.run_id = run_id
        self.message = message
        self.sent_to: str | None = None
        self.queue: asyncio.Queue[Report | AgentError] = asyncio.Queue()


class Runs:
    """All runs of one kernel over its link.

    Args:
        kernel_id: The kernel.
        incarnation: Its incarnation.
        run_dir: The directory of the link's socket.
    """

    def __init__(self, kernel_id: str, incarnation: int, run_dir: Path) -> None:
        self.kernel_id = kernel_id
        self.link = RunnerLink(kernel_id, incarnation, run_dir, self._deliver, self._greeted)
        self._runs: dict[str, _Run] = {}
        self._stream = ""
        self._detached = False

    async def execute(self, params: ExecuteCode) -> AsyncIterator[OutputItem | RunResult]:
        """Run code and yield what it says, the result last; abandoning it interrupts the run.

        Raises:
            Conflict: when a run of this id is under way.
            RunnerUnavailable: when the runner does not come back in time.
            KernelFailed: when the kernel ends meanwhile.
        """
        message = {
            "type": "execute",
            "run_id": params.run_id,
            "mode": params.mode,
            "code": params.code,
            "options": params.options,
            "timeout": params.timeout,
        }
        async for report in self._exchange(params.run_id, message):
            if report.item is not None:
                yield report.item
            else:
                status = report.status or RunStatus.LOST
                yield RunResult(
                    run_id=params.run_id, status=status.value, exit_code=report.exit_code
                )

    async def complete(self, run_id: str, code: str, cursor: int) -> list[str]:
        """Ask for completions at a position of a text."""
        message = {"type": "complete", "run_id": run_id, "code": code, "cursor": cursor}
        async for report in self._exchange(run_id, message):
            if report.item is not None and report.item.kind == "completions":
                return report.item.matches or []
        return []

    async def send_input(self, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""
        await self.link.wait_connected(_RECONNECT_DEADLINE)
        self.link.send({"type": "input", "run_id": run_id, "text": text})

    async def interrupt(self, run_id: str | None) -> None:
        """Interrupt a run, by default the one under way, which is the oldest."""
        await self.link.wait_connected(_RECONNECT_DEADLINE)
        which = run_id or next(iter(self._runs), None)
        if which is not None:
            self.link.send({"type": "interrupt", "run_id": which})

    def detach(self) -> None:
        """Leave the runs as they are when their callers go: the agent is about to stop."""
        self._detached = True

    async def close(self, error: AgentError | None = None) -> None:
        """Drop the link and tell every caller why."""
        await self.link.close()
        why = error or KernelFailed(f"kernel {self.kernel_id} has ended")
        for run in self._runs.values():
            run.queue.put_nowait(why)

    async def _exchange(self, run_id: str, message: Mapping[str, object]) -> AsyncIterator[Report]:
        if run_id in self._runs:
            raise Conflict(
                f"run {run_id} of kernel {self.kernel_id} is under way",
                hint="Give each run an id of its own.",
            )
        run = self._runs[run_id] = _Run(run_id, message)
        finished = False
        try:
            await self.link.wait_connected(_RECONNECT_DEADLINE)
            self._send(run)
            while not finished:
                report = await self._next(run)
                finished = report.status is not None or (
                    report.item is not None and report.item.kind == "completions"
                )
                yield report
        finally:
            del self._runs[run_id]
            self._abandon(run, finished=finished)

    async def _next(self, run: _Run) -> Report:
        report = await run.queue.get()
        if isinstance(report, AgentError):
            raise report
        self.link.consumed(report.cost)
        return report

    def _abandon(self, run: _Run, *, finished: bool) -> None:
        while not run.queue.empty():
            left = run.queue.get_nowait()
            if isinstance(left, Report):
                self.link.consumed(left.cost)
        if not finished and not self._detached and self.link.connected:
            with contextlib.suppress(RunnerUnavailable):
                self.link.send({"type": "interrupt", "run_id": run.run_id})
                self.link.send({"type": "cancel", "run_id": run.run_id})

    def _send(self, run: _Run) -> None:
        run.sent_to = self._stream
        self.link.send(run.message)

    def _greeted(self, hello: Hello) -> None:
        """Go on with a runner that has come again: what it never received is sent once more.

        A run that another process of the runner had received and this one does not know is lost:
        nobody can tell how far it came, so it is not run twice.
        """
        self._stream = hello.stream
        for run in self._runs.values():
            if run.sent_to is None or run.run_id in hello.runs:
                continue
            if run.sent_to == hello.stream:
                with contextlib.suppress(RunnerUnavailable):
                    self._send(run)
            else:
                run.queue.put_nowait(Report(0, run.run_id, None, RunStatus.LOST))

    def _deliver(self, report: Report) -> None:
        run = self._runs.get(report.run_id)
        if run is None:
            self.link.consumed(report.cost)
        else:
            run.queue.put_nowait(report)
