"""Running code through a runner that the backend brings: its replies checked, its waits bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    KernelFailed,
    MalformedFrame,
    PluginContractBroken,
    PluginTimeout,
    RunnerUnavailable,
)
from agent_core.contracts.models import ModelService
from agent_core.contracts.runner import CodeRunner, Run, RunMode, RunRecord, RunStatus, ServiceState
from agent_core.kernels.runner.brought_models import BroughtModels
from agent_core.kernels.runner.kernel_models import Tell
from agent_core.kernels.runner.messages import read_report
from agent_core.kernels.runner.waiting import OVERRUN
from agent_core.wire.models import OutputItem, RunResult
from agent_core.wire.params import ExecuteCode

T = TypeVar("T")

_CALL_DEADLINE: Final = 10.0
_CLOSE_DEADLINE: Final = 5.0
_SERVICE_DEADLINE: Final = 35.0
_OPEN_DEADLINE: Final = 60.0


class BroughtRuns:
    """The runs of one incarnation whose backend brings its runner; implements `Execution`."""

    __slots__ = (
        "_backend",
        "_closed",
        "_detached",
        "_models",
        "_opening",
        "_runner",
        "_running",
        "kernel_id",
    )

    offences = 0
    offence = ""

    def __init__(self, kernel_id: str, runner: CodeRunner, backend: str) -> None:
        self.kernel_id = kernel_id
        self._backend = backend
        self._runner = runner
        self._opening: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Future[AgentError]] = {}
        self._closed = False
        self._detached = False
        self._models = BroughtModels(self._start_model)

    @property
    def connected(self) -> bool:
        """Whether the runner has been opened."""
        opening = self._opening
        if opening is None or not opening.done() or opening.cancelled() or self._closed:
            return False
        return opening.exception() is None

    async def open(self) -> None:
        """Do nothing yet: the runner is opened once its container runs."""

    async def resume(self) -> None:
        """Begin to open the runner of a kernel that runs."""
        self._open()

    async def wait_ready(self, timeout: float) -> None:
        """Open the runner, or wait until it is.

        Raises:
            RunnerUnavailable: when it is not within `timeout` seconds.
        """
        if self.connected:
            return
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._open())
        except TimeoutError as exc:
            raise RunnerUnavailable(
                f"the runner of kernel {self.kernel_id} was not ready within {timeout:g} s"
            ) from exc
        except asyncio.CancelledError:
            if self._closed:
                raise self._ended() from None
            raise

    def _open(self) -> asyncio.Task[None]:
        if self._closed:
            raise self._ended()
        opening = self._opening
        failed = opening is not None and opening.done() and not self.connected
        if opening is None or failed:
            self._opening = opening = asyncio.ensure_future(
                self._ask(self._runner.open(), "open", _OPEN_DEADLINE)
            )
            opening.add_done_callback(_seen)
        return opening

    async def execute(self, params: ExecuteCode) -> AsyncIterator[OutputItem | RunResult]:
        """Run code and yield what it says, the result last.

        Raises:
            Conflict: when a run of this id is under way.
            RunnerUnavailable: when the runner is not ready in time.
            KernelFailed: when the kernel ends meanwhile.
        """
        if params.run_id in self._running:
            raise Conflict(
                f"run {params.run_id} of kernel {self.kernel_id} is under way",
                hint="Give each run an id of its own.",
            )
        ended = self._running[params.run_id] = asyncio.get_running_loop().create_future()
        exchange = self._exchange(params, ended)
        try:
            async with contextlib.aclosing(exchange) as items:
                async for item in items:
                    yield item
        finally:
            del self._running[params.run_id]

    async def _exchange(
        self, params: ExecuteCode, ended: asyncio.Future[AgentError]
    ) -> AsyncGenerator[OutputItem | RunResult, None]:
        await self.wait_ready(_CALL_DEADLINE)
        run = Run(params.run_id, RunMode(params.mode), params.code, params.options, params.timeout)
        seconds = None if params.timeout is None else params.timeout + OVERRUN
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        messages = self._runner.execute(run)
        try:
            while True:
                message = await self._next(messages, ended, deadline)
                if message is None:
                    yield RunResult(run_id=run.run_id, status=RunStatus.TIMEOUT, exit_code=None)
                    return
                item = self._read(run.run_id, message)
                if item is not None:
                    yield item
                if isinstance(item, RunResult):
                    return
        finally:
            await self._abandon(messages)

    async def _next(
        self,
        messages: AsyncIterator[Mapping[str, Any]],
        ended: asyncio.Future[AgentError],
        deadline: float | None,
    ) -> Mapping[str, Any] | None:
        """Wait for a message, for the end of the kernel, or for the deadline (None)."""
        nexts: asyncio.Future[Mapping[str, Any]] = asyncio.ensure_future(_following(messages))
        left = None if deadline is None else deadline - asyncio.get_running_loop().time()
        try:
            waiting: set[asyncio.Future[Any]] = {nexts, ended}
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not nexts.done():
                nexts.cancel()
                await asyncio.wait({nexts}, timeout=_CLOSE_DEADLINE)
        if ended.done():
            raise ended.result()
        if nexts.cancelled():
            return None
        try:
            return nexts.result()
        except AgentError:
            raise
        except Exception as exc:
            raise self._broken("execute", f"{type(exc).__name__}: {exc}") from exc

    def _read(self, run_id: str, message: Mapping[str, Any]) -> OutputItem | RunResult | None:
        try:
            report = read_report({**message, "run_id": run_id, "seq": 1})
        except (MalformedFrame, TypeError) as exc:
            raise self._broken("execute", str(exc)) from exc
        if report is None and not message:
            raise self._broken("execute", "it ended without a finished")
        if report is None or report.item is not None:
            return None if report is None else report.item
        status = report.status or RunStatus.LOST
        return RunResult(run_id=run_id, status=status.value, exit_code=report.exit_code)

    async def _abandon(self, messages: AsyncIterator[Mapping[str, Any]]) -> None:
        close = getattr(messages, "aclose", None)
        if close is not None and not self._detached:
            with contextlib.suppress(AgentError):
                await self._ask(close(), "execute", _CLOSE_DEADLINE)

    async def complete(self, run_id: str, code: str, cursor: int) -> Sequence[str]:
        """List completions at a position of a text."""
        await self.wait_ready(_CALL_DEADLINE)
        found = await self._ask(self._runner.complete(code, cursor), "complete")
        if isinstance(found, str) or not all(isinstance(match, str) for match in found):
            raise self._broken("complete", f"{found!r} is no list of texts")
        return list(found)

    async def send_input(self, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""
        await self.wait_ready(_CALL_DEADLINE)
        await self._ask(self._runner.send_input(run_id, text), "send_input")

    async def interrupt(self, run_id: str | None) -> None:
        """Interrupt a run, by default the one under way, which is the oldest."""
        await self.wait_ready(_CALL_DEADLINE)
        which = run_id or next(iter(self._running), None)
        await self._ask(self._runner.interrupt(which), "interrupt")

    async def history(self) -> Sequence[RunRecord]:
        """List the last runs that were asked for."""
        await self.wait_ready(_CALL_DEADLINE)
        found = await self._ask(self._runner.history(), "history")
        if not all(isinstance(record, RunRecord) for record in found):
            raise self._broken("history", "it told something that is no RunRecord")
        return found

    def serve(self, models: Sequence[ModelService], tell: Tell) -> None:
        """Ask the runner to keep models running, one after the other."""
        self._models.serve(models, tell)

    async def _start_model(self, model: ModelService) -> object:
        await self.wait_ready(_CALL_DEADLINE)
        seconds = model.health_check.patience + _CALL_DEADLINE
        return await self._ask(self._runner.start_model(model), "start_model", seconds)

    async def services(self) -> Sequence[ServiceState]:
        """List the kernel's services."""
        await self.wait_ready(_CALL_DEADLINE)
        found = await self._ask(self._runner.services(), "services")
        return [self._with_model(self._service("services", state)) for state in found]

    def _with_model(self, state: ServiceState) -> ServiceState:
        return replace(state, model=self._models.state(state.name))

    async def start_service(self, name: str, options: Mapping[str, str]) -> ServiceState:
        """Start a service, or say how it is when it runs."""
        await self.wait_ready(_CALL_DEADLINE)
        starting = self._runner.start_service(name, options)
        started = await self._ask(starting, "start_service", _SERVICE_DEADLINE)
        self._models.started(name)
        return self._with_model(self._service("start_service", started))

    async def shutdown_service(self, name: str) -> None:
        """End a service; succeeds when it does not run."""
        await self.wait_ready(_CALL_DEADLINE)
        ending = self._runner.shutdown_service(name)
        await self._ask(ending, "shutdown_service", _SERVICE_DEADLINE)
        self._models.stopped(name)

    def _service(self, method: str, state: object) -> ServiceState:
        if not isinstance(state, ServiceState):
            raise self._broken(method, f"{state!r} is no ServiceState")
        return state

    def detach(self) -> None:
        """Leave the runs as they are when their callers go."""
        self._detached = True

    async def close(self, error: AgentError | None = None) -> None:
        """Close the runner and tell every caller why."""
        if self._closed:
            return
        self._closed = True
        self._models.close()
        why = error or self._ended()
        for ended in self._running.values():
            if not ended.done():
                ended.set_result(why)
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        with contextlib.suppress(AgentError):
            await self._ask(self._runner.close(), "close", _CLOSE_DEADLINE)

    def _ended(self) -> KernelFailed:
        return KernelFailed(f"kernel {self.kernel_id} has ended")

    async def _ask(self, work: Awaitable[T], method: str, seconds: float = _CALL_DEADLINE) -> T:
        """Wait for one call of the runner, and make what it raises one of our errors."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except AgentError:
            raise
        except TimeoutError as exc:
            raise PluginTimeout(
                f"the runner of kernel {self.kernel_id} did not answer {method} in {seconds:g} s",
                plugin=self._backend,
                stage=method,
            ) from exc
        except Exception as exc:
            raise self._broken(method, f"{type(exc).__name__}: {exc}") from exc

    def _broken(self, method: str, why: str) -> PluginContractBroken:
        return PluginContractBroken(
            f"the runner of kernel {self.kernel_id} failed in {method}: {why}",
            plugin=self._backend,
            stage=method,
        )


async def _following(messages: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Wait for the next message; an empty one says that there is none."""
    return await anext(messages, {})


def _seen(task: asyncio.Task[None]) -> None:
    """Look at a failure that nobody waits for, so that it is not reported as lost."""
    if not task.cancelled():
        task.exception()
