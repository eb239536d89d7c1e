"""The owner of one kernel: the only task that builds it, ends it and writes its rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from agent_core import clock
from agent_core.contracts.backend import ContainerState, ExitStatus, Presence
from agent_core.contracts.errors import AgentError, DeadlineExceeded, InternalError
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.giving_back import GivingBack
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal
from agent_core.kernels.services import Services
from agent_core.kernels.states import KernelState, Reason
from agent_core.kernels.steps import Step
from agent_core.ledger import HoldState

log = structlog.get_logger(__name__)

T = TypeVar("T")


class _StepFailed(Exception):
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class Owner:
    """Runs one kernel from where its row says it is until nothing of it is held.

    Others post an `Ending`; whoever waits for a change awaits `changed`.

    Args:
        services: What it calls.
        steps: The steps of a create, in order.
        journal: The kernel's rows.
        build: What is known of its parts.
        ended: Called once the kernel is TERMINATED.
    """

    def __init__(
        self,
        services: Services,
        steps: Sequence[Step],
        journal: Journal,
        build: Assembly,
        ended: Callable[[Owner], None],
    ) -> None:
        self._services = services
        self._steps = steps
        self.journal = journal
        self.build = build
        self._ended = ended
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()
        self.timings: list[tuple[str, float, float]] = list(journal.row.timings)
        self._giving_back = GivingBack(services, steps, journal)

    # ---- for others ----

    @property
    def kernel_id(self) -> str:
        """The kernel's id."""
        return self.journal.row.kernel_id

    def post(self, ending: Ending) -> None:
        """Ask for the end; only the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    async def changed(self) -> None:
        """Wait for the next change of state."""
        await self._changed.wait()

    # ---- the owner's life ----

    async def run(self) -> None:
        """Live the kernel's life to its end; cancelling leaves everything as it is."""
        try:
            ending = await self._live()
            await self._end(ending)
        finally:
            if self.build.runs is not None:
                await self.build.runs.close()

    async def _live(self) -> Ending:
        if self.journal.state is KernelState.PREPARING and not self._ending.done():
            try:
                await self._build()
            except _StepFailed as failed:
                return failed.ending
        if self.journal.state is KernelState.TERMINATING:
            row = self.journal.row
            return Ending(row.reason or Reason.USER_REQUESTED, row.message)
        return await asyncio.shield(self._ending)

    async def _build(self) -> None:
        """Take every step; an ending that is posted meanwhile cancels the one under way."""
        for step in self._steps:
            began, ledger_before = time.perf_counter(), self.journal.ledger_seconds
            self._tell(step, "taking")
            await self._prepare(step)
            await self._take(step)
            seconds = time.perf_counter() - began
            ledger_seconds = self.journal.ledger_seconds - ledger_before
            self.timings.append((step.name, seconds, ledger_seconds))
            self._tell(step, "held", seconds=round(seconds, 6))
        await self._change(
            KernelState.RUNNING,
            put=self.journal.settled(),
            started_at=clock.wall(),
            warnings=tuple(self.build.warnings),
            timings=tuple(self.timings),
        )

    async def _prepare(self, step: Step) -> None:
        # The claims are in the ledger since PREPARING.
        if step.kind and step.kind != "claim":
            await self.journal.taking(step.holds(self.build))

    async def _take(self, step: Step) -> None:
        if self._ending.done():
            raise _StepFailed(self._ending.result())
        try:
            await self._until_ending(step.take(self.build), interruptible=step.interruptible)
        except _StepFailed:
            raise
        except TimeoutError as exc:
            raise self._failed(step, DeadlineExceeded(f"it passed its deadline: {exc}")) from exc
        except AgentError as exc:
            raise self._failed(step, exc) from exc
        except Exception as exc:
            log.exception("step failed", step=step.name, kernel_id=self.kernel_id)
            raise self._failed(step, InternalError(f"{type(exc).__name__}: {exc}")) from exc

    def _failed(self, step: Step, error: AgentError) -> _StepFailed:
        if self._ending.done() and self._ending.result().reason != Reason.SELF_TERMINATED:
            return _StepFailed(self._ending.result())
        message = f"step {step.name}: {error.message}"
        return _StepFailed(
            Ending(step.failure, message if not error.hint else f"{message} ({error.hint})")
        )

    async def _until_ending(self, work: Coroutine[Any, Any, T], *, interruptible: bool) -> T:
        """Run one step's taking; an ending cancels it, or waits for it where it must be whole."""
        task = asyncio.ensure_future(work)
        try:
            waiting: set[asyncio.Future[Any]] = {task, self._ending}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and interruptible:
                task.cancel()
                await asyncio.wait({task})
                raise _StepFailed(self._explained(self._ending.result()))
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    def _explained(self, ending: Ending) -> Ending:
        """A container that ends while its runner is awaited has failed to start."""
        if ending.reason != Reason.SELF_TERMINATED:
            return ending
        code = ending.exit.code if ending.exit else None
        return Ending(
            Reason.FAILED_TO_START,
            f"the container ended before its runner connected, with exit code {code}",
            ending.exit,
        )

    # ---- the end ----

    async def _end(self, ending: Ending) -> None:
        if self.journal.state is KernelState.TERMINATED:
            await self._giving_back.leftovers()
            return
        if self.journal.state is not KernelState.TERMINATING:
            await self._change(
                KernelState.TERMINATING,
                mark=HoldState.RELEASING,
                reason=ending.reason,
                message=ending.message,
            )
        exit_status = ending.exit or await self._exit_of_container()
        if self.build.runs is not None:
            await self.build.runs.close()
        await self._giving_back.container(self._tell)
        exit_status = exit_status or self._giving_back.exit
        given, left = await self._giving_back.rest(self._tell)
        await self._change(
            KernelState.TERMINATED,
            drop=given,
            put=left,
            ended_at=clock.wall(),
            exit_code=exit_status.code if exit_status else None,
        )
        self._giving_back.freed(given)
        self._ended(self)
        if left:
            await self._giving_back.leftovers()

    async def _exit_of_container(self) -> ExitStatus | None:
        """Learn how the container ended by itself, before it is removed."""
        try:
            async with asyncio.timeout(self._services.settings.call_timeout):
                status = await self._services.backend.inspect(self.build.container)
        except (AgentError, TimeoutError):
            return None
        if status.presence is Presence.PRESENT and status.state is ContainerState.EXITED:
            return status.exit
        return None

    # ---- telling ----

    async def _change(self, state: KernelState, **values: Any) -> None:
        await self.journal.change(state, **values)
        if state in (KernelState.RUNNING, KernelState.TERMINATED):
            self._services.bus.settled(self.kernel_id)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _tell(self, step: Step, phase: str, **data: Any) -> None:
        row = self.journal.row
        self._services.bus.progress(
            "kernel.step",
            row.kernel_id,
            row.session_id,
            {"step": step.name, "phase": phase, **data},
        )
