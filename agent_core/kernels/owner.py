"""The owner of one kernel: the only task that builds it, ends it and writes its rows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from agent_core import clock
from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import AgentError, LedgerFailed, RunnerUnavailable, WrongState
from agent_core.kernels.assembly import Assembly, container_name
from agent_core.kernels.batch import startup_of
from agent_core.kernels.building import Building, StepFailed
from agent_core.kernels.giving_back import GivingBack
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal
from agent_core.kernels.restarts import Restarts
from agent_core.kernels.services import Services
from agent_core.kernels.serving import serve_models
from agent_core.kernels.states import KernelState, Reason
from agent_core.kernels.steps import Step
from agent_core.ledger import HoldRow, HoldState
from agent_core.wire.events import KERNEL_STEP

log = structlog.get_logger(__name__)


class Register(Protocol):
    """Knows the owners of all kernels."""

    def renamed(self, owner: Owner, before: str) -> None:
        """Hear that another container has taken the place of this one."""

    def ending(self, owner: Owner) -> None:
        """Hear that the kernel is TERMINATING, durably; told again after a failure."""

    def ended(self, owner: Owner) -> None:
        """Hear that the kernel is TERMINATED, durably; told again after a failure."""

    def together(self, owner: Owner) -> Callable[[], Awaitable[None]]:
        """Return what waits until no other kernel of the session is being created any more."""


class Owner:
    """Runs one kernel from where its row says it is until nothing of it is held.

    Others post an `Ending` or ask for a restart; whoever waits for a change awaits `changed`.

    Args:
        services: What it calls.
        steps: The steps of a create, in order.
        journal: The kernel's rows.
        build: What is known of its parts.
        register: Where it is found, and what is told of what becomes of it.

    Attributes:
        since: Monotonic seconds of the last change; what was observed earlier says nothing of it.
    """

    def __init__(
        self,
        services: Services,
        steps: Sequence[Step],
        journal: Journal,
        build: Assembly,
        register: Register,
    ) -> None:
        self._services = services
        self._steps = steps
        self.journal = journal
        self.build = build
        self._register = register
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._restarts = Restarts()
        self._changed = asyncio.Event()
        self._building: Building | None = None
        self._whole = False
        self.since = clock.monotonic()
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

    @property
    def started(self) -> bool:
        """Whether this agent has started the container that the kernel has now."""
        return self._building is not None and self._building.started

    def post(self, ending: Ending) -> None:
        """Ask for the end; only the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def interrupt(self, message: str) -> None:
        """Ask for the end of a create that is under way; what runs, or is about to, runs on."""
        if self.building:
            self.post(Ending(Reason.CREATE_INTERRUPTED, message))

    async def restart(self) -> None:
        """Ask for a new incarnation; returns once it is recorded, and goes on by itself.

        Raises:
            WrongState: when the kernel ends instead.
            LedgerFailed: when it cannot be recorded; the kernel runs on as it was.
        """
        await self._restarts.ask()

    async def disconnect(self, why: AgentError | None = None) -> None:
        """Stop listening for the runner; what it runs goes on."""
        if self.build.runs is not None:
            await self.build.runs.close(why)

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
        try:
            if self.journal.state is KernelState.PREPARING and not self._ending.done():
                await self._build()
            while self.journal.state in (KernelState.RUNNING, KernelState.RESTARTING):
                if self.journal.state is KernelState.RUNNING:
                    await self._serve()
                else:
                    await self._build_anew()
        except StepFailed as failed:
            return failed.ending
        if self.journal.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            row = self.journal.row
            return Ending(row.reason or Reason.USER_REQUESTED, row.message)
        return self._ending.result()

    async def _build(self, held: Sequence[HoldRow] = ()) -> None:
        """Take every step; an ending that is posted meanwhile cancels the one under way."""
        self._building = Building(
            self._services, self._steps, self.journal, self.build, self._ending, self._tell
        )
        async with self._services.turns.one(self._ending):
            await self._building.run(held)
        await self._become_running(self._building.gathered())

    async def _become_running(self, gathered: Mapping[str, Any]) -> None:
        self._whole = True
        try:
            await self._change(
                KernelState.RUNNING,
                put=self.journal.settled(),
                started_at=clock.wall(),
                **gathered,
            )
            self.journal.forget_holds()
            serve_models(self._services, self.build)
        except LedgerFailed as exc:
            why = f"it runs, but that could not be recorded: {exc.message}"
            first = self.build.incarnation == 1
            reason = Reason.FAILED_TO_START if first else Reason.FAILED_TO_RESTART
            raise StepFailed(Ending(reason, why)) from exc

    async def _serve(self) -> None:
        """Let it run until it ends or is restarted, and its startup command as long as that."""
        pauses = self._services.settings.pauses()
        together = self._register.together(self)
        async with startup_of(self.build, together, self.post, pauses):
            while self.journal.state is KernelState.RUNNING:
                await self._restart_or_end()

    # ---- the next incarnation ----

    async def _restart_or_end(self) -> None:
        """Wait for what comes first; an end goes before a restart."""
        await self._restarts.asked(self._ending)
        self._go_on()
        try:
            await self._begin_restarting()
        except LedgerFailed as exc:
            self._restarts.refuse(exc)
            with contextlib.suppress(AgentError):
                await self.journal.refresh()
        else:
            self._restarts.accept()

    async def _begin_restarting(self) -> None:
        row = self.journal.row
        number = row.incarnation + 1
        name = container_name(self._services.settings.agent_id, row.kernel_id, number)
        await self._change(KernelState.RESTARTING, incarnation=number, container=name)

    async def _build_anew(self) -> None:
        """Give the container back and build the next one on what is kept."""
        row, before, self._building = self.journal.row, self.build, None
        # What the old container does from here on is our doing, and no end of the kernel.
        self._register.renamed(self, before.container)
        await self.disconnect(
            RunnerUnavailable(f"kernel {row.kernel_id} is being restarted; what it ran is lost")
        )
        held = await self._cleared()
        self.build = before.next(row.incarnation, row.container or "", held)
        await self._build(held)

    async def _cleared(self) -> Sequence[HoldRow]:
        """Give back what is made anew, as often as that is needed; return what is kept."""
        giving_back = GivingBack(self._services, self._steps, self.journal)
        pauses = self._services.settings.pauses()
        while True:
            try:
                return await giving_back.replaced(self._tell, self._pause)
            except AgentError as exc:
                log.warning("a restart waits", kernel_id=self.kernel_id, error=exc.message)
            await self._pause(next(pauses))

    async def _pause(self, seconds: float) -> None:
        """Wait between two tries, but not beyond the end of the kernel."""
        await asyncio.wait({self._ending}, timeout=seconds)
        self._go_on()

    def _go_on(self) -> None:
        if self._ending.done():
            raise StepFailed(self._ending.result())

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
        self._register.ended(self)
        await self._giving_back.leftovers()

    async def _give_back(self, ending: Ending) -> None:
        if self.journal.state is not KernelState.TERMINATING:
            await self._begin_ending(ending)
        self._register.ending(self)
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
        values: dict[str, Any] = {"reason": _reason_of(ending), "message": ending.message}
        if self._building is not None and self.journal.state is not KernelState.RUNNING:
            values |= self._building.gathered()
        if ending.exit is not None:
            self._giving_back.exit = ending.exit
            values["exit_code"] = ending.exit.code
            values["message"] = ending.message or _ended_how(ending.exit)
        # A container in which no code has run yet has nothing to bring to an end, and its first
        # process may not be there yet to heed a signal.
        self._giving_back.gently = self.journal.state is not KernelState.PREPARING
        await self._change(KernelState.TERMINATING, mark=HoldState.RELEASING, **values)
        self._restarts.refuse(
            WrongState(
                f"kernel {self.kernel_id} is ending: {ending.reason}", hint="Create another."
            )
        )

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
            KERNEL_STEP.name,
            row.kernel_id,
            row.session_id,
            {"step": step.name, "phase": phase, **data},
        )


def _reason_of(ending: Ending) -> str:
    """Tell the end by its memory limit from others that came without a request."""
    oom = ending.exit is not None and ending.exit.oom
    return Reason.OOM if oom and ending.reason == Reason.SELF_TERMINATED else ending.reason


def _ended_how(seen: ExitStatus) -> str | None:
    """Say in words how a container ended by itself."""
    if seen.oom:
        return "the memory limit ended its container"
    if seen.signal is not None:
        return f"its main process was ended by signal {seen.signal}"
    return None if seen.code is None else f"its main process ended with exit code {seen.code}"
