"""The runs of one kernel: each report finds its caller, and what nobody takes is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    KernelFailed,
    RunnerUnavailable,
)
from agent_core.contracts.models import ModelService
from agent_core.contracts.runner import RunRecord, RunStatus, ServiceState
from agent_core.kernels.published import ServicePlace
from agent_core.kernels.runner.kernel_models import KernelModels, Tell
from agent_core.kernels.runner.kernel_services import KernelServices
from agent_core.kernels.runner.link import RunnerLink
from agent_core.kernels.runner.messages import Hello, Report
from agent_core.kernels.runner.waiting import WaitingRun
from agent_core.wire.models import OutputItem, RunResult
from agent_core.wire.params import ExecuteCode

_RECONNECT_DEADLINE = 10.0
_COMPLETION_DEADLINE = 5.0
_HISTORY_DEADLINE = 5.0


class Runs:
    """All runs of one kernel over its link.

    Args:
        kernel_id: The kernel.
        incarnation: Its incarnation.
        run_dir: The directory of the link's socket.
        places: Where the kernel's services listen.
    """

    def __init__(
        self,
        kernel_id: str,
        incarnation: int,
        run_dir: Path,
        places: Sequence[ServicePlace] = (),
    ) -> None:
        self.kernel_id = kernel_id
        self._models = KernelModels(kernel_id, places, self._send_now)
        self._services = KernelServices(kernel_id, places, self._ask, self._models)
        self.link = RunnerLink(kernel_id, incarnation, run_dir, self._deliver, self._greeted)
        self._run_dir = run_dir
        self._runs: dict[str, WaitingRun] = {}
        self._others: set[str] = set()
        self._stream = ""
        self._detached = False

    @property
    def offences(self) -> int:
        """How often a peer broke the protocol."""
        return self.link.offences

    @property
    def offence(self) -> str:
        """What the last offence was."""
        return self.link.offence

    @property
    def connected(self) -> bool:
        """Whether a runner is connected now."""
        return self.link.connected

    async def open(self) -> None:
        """Listen for the runner; see `RunnerLink.open`."""
        await self.link.open()

    async def resume(self) -> None:
        """Listen again for a runner that an earlier agent listened for."""
        await asyncio.to_thread(self._run_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
        await self.link.open()

    async def wait_ready(self, timeout: float) -> None:
        """Wait until the runner is connected; see `RunnerLink.wait_connected`."""
        await self.link.wait_connected(timeout)

    async def history(self) -> Sequence[RunRecord]:
        """List the last runs that were asked for, the oldest first.

        Raises:
            RunnerUnavailable: when the runner does not answer in time.
        """
        report = await self._ask({"type": "history"}, _HISTORY_DEADLINE)
        if report.history is None:
            raise RunnerUnavailable(f"the runner of kernel {self.kernel_id} tells no history")
        return report.history

    def serve(self, models: Sequence[ModelService], tell: Tell) -> None:
        """Let the runner serve models from now on, and whenever one comes again."""
        self._models.serve(models, tell)
        if self.link.connected:
            self._models.greet()

    def _send_now(self, message: Mapping[str, Any]) -> None:
        self.link.send(message)

    async def services(self) -> Sequence[ServiceState]:
        """List what the kernel publishes, and whether it was started."""
        return await self._services.list()

    async def start_service(self, name: str, options: Mapping[str, str]) -> ServiceState:
        """Start a service and wait until it answers; see `KernelServices.start`."""
        return await self._services.start(name, options)

    async def shutdown_service(self, name: str) -> None:
        """End a service; see `KernelServices.shutdown`."""
        await self._services.shutdown(name)

    async def _ask(self, message: Mapping[str, Any], timeout: float) -> Report:
        """Ask the runner something that is no run, and return its answer."""
        named = {**message, "run_id": f"{message['type']}-{uuid.uuid4().hex[:12]}"}
        asking = WaitingRun(named, timeout)
        async with contextlib.aclosing(self._exchange(asking)) as reports:
            return await anext(reports)

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
        exchange = self._exchange(WaitingRun(message, params.timeout))
        async with contextlib.aclosing(exchange) as reports:
            async for report in reports:
                if not report.answers:
                    yield report.item or _result(report)

    async def complete(self, run_id: str, code: str, cursor: int) -> list[str]:
        """Ask for completions at a position of a text; there are none when no answer comes."""
        message = {"type": "complete", "run_id": run_id, "code": code, "cursor": cursor}
        asking = WaitingRun(message, _COMPLETION_DEADLINE)
        async with contextlib.aclosing(self._exchange(asking)) as reports:
            async for report in reports:
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
        which = run_id or next((r.run_id for r in self._executing()), None)
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

    async def _exchange(self, run: WaitingRun) -> AsyncGenerator[Report, None]:
        if run.run_id in self._runs:
            raise Conflict(
                f"run {run.run_id} of kernel {self.kernel_id} is under way",
                hint="Give each run an id of its own.",
            )
        self._runs[run.run_id] = run
        told = ended = False
        try:
            await self.link.wait_connected(_RECONNECT_DEADLINE)
            self._send(run)
            while not ended:
                report = await self._next(run)
                ended = _ends(run, report)
                told = ended and report.seq > 0
                yield report
        finally:
            run.close()
            del self._runs[run.run_id]
            self._abandon(run, finished=told)
            self._begin_oldest()

    async def _next(self, run: WaitingRun) -> Report:
        report = await run.queue.get()
        if isinstance(report, AgentError):
            raise report
        self.link.consumed(report)
        return report

    def _abandon(self, run: WaitingRun, *, finished: bool) -> None:
        while not run.queue.empty():
            left = run.queue.get_nowait()
            if isinstance(left, Report):
                self.link.consumed(left)
        if not finished and not self._detached and self.link.connected:
            with contextlib.suppress(RunnerUnavailable):
                self.link.send({"type": "interrupt", "run_id": run.run_id})
                self.link.send({"type": "cancel", "run_id": run.run_id})

    def _executing(self) -> Iterator[WaitingRun]:
        return (run for run in self._runs.values() if run.asks == "execute")

    def _begin_oldest(self) -> None:
        """Let the time of the oldest run begin, also when the runner does not say that it does."""
        oldest = next(self._executing(), None)
        if oldest is not None and oldest.sent_to is not None and not self._others:
            oldest.begin()

    def _send(self, run: WaitingRun) -> None:
        self.link.send(run.message)
        run.sent_to = self._stream
        if run.asks != "execute":
            run.begin()
        self._begin_oldest()

    def _greeted(self, hello: Hello) -> None:
        """Go on with a runner that has come again: what it never received is sent once more.

        A run that another process of the runner had received and this one does not know is lost:
        nobody can tell how far it came, so it is not run twice.
        """
        self._stream = hello.stream
        self._others = {run_id for run_id in hello.runs if run_id not in self._runs}
        for run in self._runs.values():
            if run.sent_to is None or run.run_id in hello.runs:
                continue
            if run.sent_to == hello.stream:
                with contextlib.suppress(RunnerUnavailable):
                    self._send(run)
            else:
                run.lose(RunStatus.LOST)
        self._models.greet()

    def _deliver(self, report: Report) -> None:
        if report.model is not None:
            self.link.consumed(report)
            self._models.said(report.run_id, report.model)
            return
        run = self._runs.get(report.run_id)
        if run is None:
            self.link.consumed(report)
            self._pass(report)
            return
        if report.item is not None and report.item.kind == "started":
            run.begin()
        run.queue.put_nowait(report)

    def _pass(self, report: Report) -> None:
        """See a run end for which nobody waits any more: the next one's time may begin."""
        if report.status is not None and report.run_id in self._others:
            self._others.discard(report.run_id)
            self._begin_oldest()


def _result(report: Report) -> RunResult:
    status = report.status or RunStatus.LOST
    return RunResult(run_id=report.run_id, status=status.value, exit_code=report.exit_code)


def _ends(run: WaitingRun, report: Report) -> bool:
    """Say whether a report is the last of what was asked; a run has no completions."""
    if run.asks in ("execute", "complete"):
        ended = report.item is None and not report.answers
        return ended or (run.asks == "complete" and _completes(report))
    return True


def _completes(report: Report) -> bool:
    return report.item is not None and report.item.kind == "completions"
