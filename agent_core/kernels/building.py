"""Building one incarnation of a kernel: its steps in order, until it is whole or is to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

import structlog

from agent_core.contracts.errors import AgentError, InternalError, KernelFailed
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal
from agent_core.kernels.services import Services
from agent_core.kernels.states import Reason
from agent_core.kernels.steps import Step
from agent_core.kernels.steps.container import StartStep
from agent_core.ledger import HoldRow

log = structlog.get_logger(__name__)

_CANCEL_GRACE: Final = 5.0
"""Seconds that a step has to end when the agent stops."""


class Tell(Protocol):
    """Tells whoever watches how far a step has come."""

    def __call__(self, step: Step, phase: str, **data: Any) -> None:
        """Tell it."""


class StepFailed(Exception):
    """Raised when a kernel cannot be built to its end; says how it ends instead."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class Building:
    """Takes the steps of one incarnation.

    Args:
        services: What steps call.
        steps: All of them, in order.
        journal: The kernel's rows.
        build: What the steps gather.
        ending: The kernel's end, once it is asked for; it cancels the step under way.
        tell: Tells of progress.

    Attributes:
        timings: For each step that was taken its name, its seconds, and those of the ledger.
    """

    def __init__(
        self,
        services: Services,
        steps: Sequence[Step],
        journal: Journal,
        build: Assembly,
        ending: asyncio.Future[Ending],
        tell: Tell,
    ) -> None:
        self._services = services
        self._steps = steps
        self._journal = journal
        self._build = build
        self._ending = ending
        self._tell = tell
        self.timings: list[tuple[str, float, float]] = []

    @property
    def started(self) -> bool:
        """Whether the container was started."""
        return any(name == StartStep.name for name, _, _ in self.timings)

    async def run(self, held: Sequence[HoldRow] = ()) -> None:
        """Take every step.

        Args:
            held: What an earlier incarnation has left to this one.

        Raises:
            StepFailed: when a step fails, or the end was asked for.
        """
        for step in self._steps:
            began, ledger_before = time.perf_counter(), self._journal.ledger_seconds
            self._tell(step, "taking")
            await self._take(step, [hold for hold in held if hold.kind == step.kind])
            seconds = time.perf_counter() - began
            ledger_seconds = self._journal.ledger_seconds - ledger_before
            self.timings.append((step.name, seconds, ledger_seconds))
            self._tell(step, "held", seconds=round(seconds, 6))
        self._build.row, self._build.held = None, ()
        self.go_on()

    def gathered(self) -> dict[str, Any]:
        """Return what the kernel's row says of how it was built."""
        return {"warnings": tuple(self._build.warnings), "timings": tuple(self.timings)}

    def go_on(self) -> None:
        """Raise `StepFailed` when the end was asked for."""
        if self._ending.done():
            raise StepFailed(self._cut_short())

    async def _take(self, step: Step, held: Sequence[HoldRow]) -> None:
        try:
            if held:
                await self._until_ending(step, step.take_again(self._build, held))
            else:
                await self._take_anew(step)
        except StepFailed:
            raise
        except TimeoutError as exc:
            raise self._failed(step, KernelFailed("it passed its deadline", hint="")) from exc
        except AgentError as exc:
            raise self._failed(step, exc) from exc
        except Exception as exc:
            kernel_id = self._journal.row.kernel_id
            log.exception("step failed", step=step.name, kernel_id=kernel_id)
            raise self._failed(step, InternalError(f"{type(exc).__name__}: {exc}")) from exc

    async def _take_anew(self, step: Step) -> None:
        # The claims are in the ledger since PREPARING.
        holds = step.holds(self._build) if step.kind and step.kind != "claim" else ()
        if not any(hold.shared for hold in holds):
            await self._take_held(step, holds)
            return
        async with AsyncExitStack() as alone:
            for hold in holds:
                await alone.enter_async_context(self._services.sharing.alone(hold))
            await self._take_held(step, holds)

    async def _take_held(self, step: Step, holds: Sequence[HoldRow]) -> None:
        if holds:
            await self._journal.taking(holds)
        if step.recorded:
            self._build.row, self._build.held = self._journal.row, await self._journal.holds()
        self.go_on()
        await self._until_ending(step, step.take(self._build))

    async def _until_ending(self, step: Step, work: Coroutine[Any, Any, None]) -> None:
        """Run one step's taking; an ending cancels it, or waits for it where it must be whole."""
        if not step.interruptible:
            await self._whole(work)
            return
        task = asyncio.ensure_future(work)
        try:
            waiting: set[asyncio.Future[Any]] = {task, self._ending}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not (step.explains and self._has_ended_by_itself()):
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
        self.go_on()
        raise InternalError("it was given up from inside")

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise InternalError("it was given up from inside") from exc

    def _has_ended_by_itself(self) -> bool:
        return self._ending.done() and self._ending.result().reason == Reason.SELF_TERMINATED

    def _failed(self, step: Step, error: AgentError) -> StepFailed:
        posted = self._ending.result() if self._ending.done() else None
        if posted is not None and posted.reason != Reason.SELF_TERMINATED:
            return StepFailed(posted)
        message = f"step {step.name}: {error.message}"
        return StepFailed(
            Ending(
                step.failure if self._build.incarnation == 1 else Reason.FAILED_TO_RESTART,
                message if not error.hint else f"{message} ({error.hint})",
                posted.exit if posted is not None else None,
            )
        )

    def _cut_short(self) -> Ending:
        """A container that ends before its kernel runs has failed to start."""
        ending = self._ending.result()
        if ending.reason != Reason.SELF_TERMINATED:
            return ending
        code = ending.exit.code if ending.exit else None
        message = f"the container ended before its runner connected, with exit code {code}"
        first = self._build.incarnation == 1
        reason = Reason.FAILED_TO_START if first else Reason.FAILED_TO_RESTART
        return Ending(reason, message, ending.exit)
