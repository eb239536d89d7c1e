"""The owner of one kernel: the only task that builds it, ends it and writes its rows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from agent_core import clock
from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import AgentError, InternalError, KernelFailed, LedgerFailed
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.giving_back import GivingBack
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal
from agent_core.kernels.services import Services
from agent_core.kernels.states import KernelState, Reason
from agent_core.kernels.steps import Step
from agent_core.ledger import HoldState

log = structlog.get_logger(__name__)

_CANCEL_GRACE: Final = 5.0
"""Seconds that a step has to end when the agent stops."""


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

    Attributes:
        since: Monotonic seconds of the last change; what was observed earlier says nothing of it.
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
        self._whole = False
        self.since = clock.monotonic()
        self.timings: list[tuple[str, float, float]] = list(journal.row.timings)
        self._giving_back = GivingBack(services, steps, journal)

    # ---- for others ----

    @property
    def kernel_id(self) -> str:
        """The kernel's id."""
        return self.journal.row.kernel_id

    @property
    def building(self) -> bool:
        """Whether the create is under way, and not about to be complete."""
        return self.journal.state is KernelState.PREPARING and not self._whole

    def post(self, ending: Ending) -> None:
        """Ask for the end; only the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def interrupt(self, message: str) -> None:
        """Ask for the end of a create that is under way; what runs, or is about to, runs on."""
        if self.building:
            self.post(Ending(Reason.CREATE_INTERRUPTED, message))

    async def disconnect(self) -> None:
        """Stop listening for the runner; what it runs goes on."""
        if self.build.runs is not None:
            await self.build.runs.close()

    async def changed(self) -> None:
        """Wait for the next change of state."""
        await self._changed.wait()

    # ---- the owner's life ----

    async def run(self) -> None:
        """Live the kernel's life to its end; cancelling leaves everything as it is."""
        try:
            await self._finish(await self._live())
        finally:
            await self.disconnect()

    async def _live(self) -> Ending:
        if self.journal.state is KernelState.PREPARING and not self._ending.done():
            try:
                await self._build()
            except _StepFailed as failed:
                return failed.ending
        if self.journal.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            row = self.journal.row
            return Ending(row.reason or Reason.USER_REQUESTED, row.message)
        return await asyncio.shield(self._ending)

    async def _build(self) -> None:
        """Take every step; an ending that is posted meanwhile cancels the one under way."""
        for step in self._steps:
            began, ledger_before = time.perf_counter(), self.journal.ledger_seconds
            self._tell(step, "taking")
            await self._take(step)
            seconds = time.perf_counter() - began
            ledger_seconds = self.journal.ledger_seconds - ledger_before
            self.timings.append((step.name, seconds, ledger_seconds))
            self._tell(step, "held", seconds=round(seconds, 6))
        self._go_on()
        await self._become_running()

    async def _become_running(self) -> None:
        self._whole = True
        try:
            await self._change(
                KernelState.RUNNING,
                put=self.journal.settled(),
                started_at=clock.wall(),
                **self._gathered(),
            )
        except LedgerFailed as exc:
            why = f"it runs, but that could not be recorded: {exc.message}"
            raise _StepFailed(Ending(Reason.FAILED_TO_START, why)) from exc

    def _gathered(self) -> dict[str, Any]:
        return {"warnings": tuple(self.build.warnings), "timings": tuple(self.timings)}

    async def _take(self, step: Step) -> None:
        try:
            # The claims are in the ledger since PREPARING.
            if step.kind and step.kind != "claim":
                await self.journal.taking(step.holds(self.build))
            self._go_on()
            await self._until_ending(step.take(self.build), interruptible=step.interruptible)
        except _StepFailed:
            raise
        except TimeoutError as exc:
            raise self._failed(step, KernelFailed("it passed its deadline", hint="")) from exc
        except AgentError as exc:
            raise self._failed(step, exc) from exc
        except Exception as exc:
            log.exception("step failed", step=step.name, kernel_id=self.kernel_id)
            raise self._failed(step, InternalError(f"{type(exc).__name__}: {exc}")) from exc

    def _go_on(self) -> None:
        if self._ending.done():
            raise _StepFailed(self._cut_short())

    def _failed(self, step: Step, error: AgentError) -> _StepFailed:
        posted = self._ending.result() if self._ending.done() else None
        if posted is not None and posted.reason != Reason.SELF_TERMINATED:
            return _StepFailed(posted)
        message = f"step {step.name}: {error.message}"
        return _StepFailed(
            Ending(
                step.failure,
                message if not error.hint else f"{message} ({error.hint})",
                posted.exit if posted is not None else None,
            )
        )

    async def _until_ending(self, work: Coroutine[Any, Any, None], *, interruptible: bool) -> None:
        """Run one step's taking; an ending cancels it, or waits for it where it must be whole."""
        task = asyncio.ensure_future(work)
        try:
            waiting: set[asyncio.Future[Any]] = {task, self._ending}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if interruptible:
                task.cancel()
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_GRACE)
            if task.done() and not task.cancelled():
                task.exception()  # what fails now is of no interest, and must not be logged as lost
            raise
        if not task.cancelled():
            task.result()
            return
        self._go_on()
        raise InternalError("it was given up from inside")

    def _cut_short(self) -> Ending:
        """A container that ends before its kernel runs has failed to start."""
        ending = self._ending.result()
        if ending.reason != Reason.SELF_TERMINATED:
            return ending
        code = ending.exit.code if ending.exit else None
        message = f"the container ended before its runner connected, with exit code {code}"
        return Ending(Reason.FAILED_TO_START, message, ending.exit)

    # ---- the end ----

    async def _finish(self, ending: Ending) -> None:
        """End the kernel, as often as that is needed: what it holds must never lose its owner."""
        for pause in self._services.settings.pauses():
            try:
                await self._end(ending)
                return
            except AgentError as exc:
                log.warning("an end is not complete", kernel_id=self.kernel_id, error=exc.message)
            except Exception:
                log.exception("an end is not complete", kernel_id=self.kernel_id)
            await asyncio.sleep(pause)
            with contextlib.suppress(AgentError):
                await self.journal.refresh()
                self._settle()

    async def _end(self, ending: Ending) -> None:
        if self.journal.state is not KernelState.TERMINATED:
            await self._give_back(ending)
        self._ended(self)
        await self._giving_back.leftovers()

    async def _give_back(self, ending: Ending) -> None:
        if self.journal.state is not KernelState.TERMINATING:
            await self._begin_ending(ending)
        await self.disconnect()
        await self._giving_back.container(self._tell)
        given, left = await self._giving_back.rest(self._tell)
        seen = self._giving_back.exit
        await self._change(
            KernelState.TERMINATED,
            drop=given,
            put=left,
            ended_at=clock.wall(),
            message=self.journal.row.message or (_ended_how(seen) if seen and seen.oom else None),
        )
        self._giving_back.freed(given)

    async def _begin_ending(self, ending: Ending) -> None:
        values: dict[str, Any] = {"reason": ending.reason, "message": ending.message}
        if self.journal.state is KernelState.PREPARING:
            values |= self._gathered()
        if ending.exit is not None:
            self._giving_back.exit = ending.exit
            values["exit_code"] = ending.exit.code
            values["message"] = ending.message or _ended_how(ending.exit)
        await self._change(KernelState.TERMINATING, mark=HoldState.RELEASING, **values)

    # ---- telling ----

    async def _change(self, state: KernelState, **values: Any) -> None:
        await self.journal.change(state, **values)
        self._settle()

    def _settle(self) -> None:
        """Let everybody see the state as it is now."""
        self.since = clock.monotonic()
        if self.journal.state in (KernelState.RUNNING, KernelState.TERMINATED):
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


def _ended_how(seen: ExitStatus) -> str | None:
    """Say in words how a container ended by itself."""
    if seen.oom:
        return "the memory limit ended its container"
    if seen.signal is not None:
        return f"its main process was ended by signal {seen.signal}"
    return None if seen.code is None else f"its main process ended with exit code {seen.code}"
