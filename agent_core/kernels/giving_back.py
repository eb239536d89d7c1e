"""Giving back what a kernel holds: its container first, then the rest, and what is dirty again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog

from agent_core.contracts.backend import ContainerState, ContainerStatus, ExitStatus, Presence
from agent_core.contracts.errors import AgentError
from agent_core.failpoints import Effect
from agent_core.kernels.asking import ask, items
from agent_core.kernels.journal import CLEANED, REPLACED, UNUSED, Journal
from agent_core.kernels.services import Services
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow, HoldState

log = structlog.get_logger(__name__)

STOP = Effect("container-stop", "a container is asked to end, and killed when it does not")

_CONTAINER, _CLAIM, _DEVICE = "container", "claim", "device"
_Tell = Callable[..., None]
_Rest = Callable[[float], Awaitable[None]]


class GivingBack:
    """Undoes the holds of one kernel, each by the step of its kind.

    Attributes:
        exit: How the container ended, where that is known or was seen while giving it back.
        gently: Whether the container is asked to end before it is killed.
    """

    def __init__(self, services: Services, steps: Sequence[Step], journal: Journal) -> None:
        self._services = services
        self._by_kind = {step.kind: step for step in steps if step.kind}
        self._journal = journal
        self._given: list[HoldRow] = []
        self.exit: ExitStatus | None = None
        self.gently = True

    async def container(self, tell: _Tell) -> None:
        """Give the container back, however long that takes: nothing else may go before it."""
        for hold in [h for h in await self._journal.holds() if h.kind == _CONTAINER]:
            await self._insist(hold, tell, asyncio.sleep)
            await self._journal.gone(hold, self.exit.code if self.exit else None)

    async def replaced(self, tell: _Tell, rest: _Rest) -> list[HoldRow]:
        """Give back what a restart makes anew, however long that takes; return what is kept.

        Args:
            tell: Tells of progress.
            rest: Waits between two tries; what it raises gives the restart up.
        """
        holds = await self._journal.holds()
        kept = [hold for hold in holds if self._is_kept(hold)]
        for hold in reversed([hold for hold in holds if hold not in kept]):
            await self._insist(hold, tell, rest)
            await self._journal.drop(REPLACED, [hold])
        self._journal.go_on_after(kept)
        return kept

    def _is_kept(self, hold: HoldRow) -> bool:
        step = self._by_kind.get(hold.kind)
        return step is None or step.kept

    async def _insist(self, hold: HoldRow, tell: _Tell, rest: _Rest) -> None:
        """Try one hold until it is given back; between two tries it is dirty and visible."""
        for pause in self._services.settings.pauses():
            note = await self._try(hold, tell)
            if note is None:
                return
            await self._journal.dirty(hold, note)
            await rest(pause)

    async def rest(self, tell: _Tell) -> tuple[list[HoldRow], list[HoldRow]]:
        """Give everything else back in reverse; return what was given back, and what is dirty."""
        given: list[HoldRow] = []
        dirty: list[HoldRow] = []
        for hold in reversed(await self._journal.holds()):
            note = self._kept(hold, dirty) or await self._try(hold, tell)
            if note is None:
                given.append(hold)
            else:
                dirty.append(replace(hold, state=HoldState.DIRTY, note=note[:500]))
        self._given = given
        return given, dirty

    async def leftovers(self) -> None:
        """Try what is dirty again until nothing is left, with growing pauses."""
        for pause in self._services.settings.pauses():
            if not await self._held():
                return
            given, dirty = await self.rest(lambda *_args, **_data: None)
            if given:
                await self._journal.drop(CLEANED, given)
                self.freed(given)
            if not dirty:
                return
            await asyncio.sleep(pause)

    def freed(self, holds: Iterable[HoldRow]) -> None:
        """Tell the steps what is free, now that this is durable."""
        for hold in holds:
            if (step := self._by_kind.get(hold.kind)) is not None:
                step.freed(hold)

    async def _held(self) -> list[HoldRow]:
        """List what is still held; what is not is free, whoever saw its commit."""
        held = await self._journal.holds()
        kept = {(hold.kind, hold.key) for hold in held}
        ours = (*self._given, *self._journal.unsure)
        self.freed(hold for hold in ours if (hold.kind, hold.key) not in kept)
        return held

    def _kept(self, hold: HoldRow, dirty: Sequence[HoldRow]) -> str | None:
        """A claim stays while its device could not be given back: it is not free."""
        if hold.kind == _CLAIM and any(d.kind == _DEVICE and d.key == hold.key for d in dirty):
            return "its device was not given back"
        return None

    async def _try(self, hold: HoldRow, tell: _Tell) -> str | None:
        """Give one hold back; return None, or why it could not be."""
        step = self._by_kind.get(hold.kind)
        if step is None:
            return f"nothing knows how to give back a {hold.kind!r}"
        tell(step, "giving-back")
        try:
            if hold.shared:
                await self._stop_using(step, hold)
            else:
                await self._undo(step, hold)
        except AgentError as exc:
            return self._noted(hold, exc.message)
        except TimeoutError:
            return self._noted(hold, "it passed its deadline")
        except Exception as exc:  # one step's defect must not keep the rest held
            log.exception("giving back failed", kind=hold.kind, key=hold.key)
            return self._noted(hold, f"{type(exc).__name__}: {exc}")
        tell(step, "given-back")
        return None

    async def _undo(self, step: Step, hold: HoldRow) -> None:
        if hold.kind == _CONTAINER:
            await self._watch_exit(hold)
            if self._services.settings.keep_ended and await self._has_ended(hold.key):
                return
        await step.give_back(hold)

    async def _has_ended(self, name: str) -> bool:
        """Whether a container may be left to be looked at: it uses nothing any more.

        It is held by nobody from then on, and told of like everything that is.
        """
        seen = await ask(self._services, self._services.backend.inspect(name), "inspect")
        return seen.state is ContainerState.EXITED

    async def _stop_using(self, step: Step, hold: HoldRow) -> None:
        """Drop a use; the last one gives the thing back, while nobody else can begin to use it."""
        async with self._services.sharing.alone(hold):
            if not await self._journal.others(hold):
                await step.give_back(hold)
            await self._journal.drop(UNUSED, [hold])

    def _noted(self, hold: HoldRow, note: str) -> str:
        log.warning("could not give back", kind=hold.kind, key=hold.key, error=note)
        return note

    # ---- the end of a container ----

    async def _watch_exit(self, hold: HoldRow) -> None:
        """End the container and keep how it ended and what it printed.

        Nothing that fails here keeps anything held: the step that follows ends it for sure.
        """
        try:
            status = await self._ended(hold.key)
            if status.presence is not Presence.ABSENT:
                await self._keep_log(hold)
        except (AgentError, OSError) as exc:
            log.warning("an end was not seen whole", key=hold.key, error=str(exc))
        except Exception:  # a backend that answers nonsense can still remove
            log.exception("an end was not seen whole", key=hold.key)

    async def _ended(self, name: str) -> ContainerStatus:
        backend = self._services.backend
        grace = self._services.settings.stop_grace if self.gently else 0.0
        if self.exit is not None:  # it need not be asked to end
            status = self._seen(await ask(self._services, backend.inspect(name), "inspect"))
            if status.presence is Presence.ABSENT or status.state is ContainerState.EXITED:
                return status
        with STOP:
            await ask(self._services, backend.stop(name, grace), "stop", extra=grace)
        return self._seen(await ask(self._services, backend.inspect(name), "inspect"))

    def _seen(self, status: ContainerStatus) -> ContainerStatus:
        known = self.exit is not None and self.exit.code is not None
        if status.state is ContainerState.EXITED and status.exit is not None and not known:
            self.exit = status.exit
        return status

    async def _keep_log(self, hold: HoldRow) -> None:
        chunks = items(self._services, self._services.backend.logs(hold.key), "logs")
        async with asyncio.timeout(self._services.settings.call_timeout), aclosing(chunks):
            await self._services.logs.collect(chunks, hold.kernel_id)
