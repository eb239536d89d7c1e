"""One kernel's row in the ledger: every change is one transaction, and memory follows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from agent_core import clock
from agent_core.events.bus import EventBus
from agent_core.kernels.startup import COMMAND as STARTUP
from agent_core.kernels.states import EVENTS, OUTCOMES, KernelState, Reason, check_transition
from agent_core.ledger import Commit, EventRow, HoldRow, HoldState, KernelRow, Ledger, Transaction

PREPARING: Final = Commit("kernel-preparing", "a create is accepted, its slots are reserved")
TAKING: Final = Commit("holds-taking", "a step is about to take something")
RUNNING: Final = Commit("kernel-running", "a create is complete")
RESTARTING: Final = Commit("kernel-restarting", "a restart is accepted")
REPLACED: Final = Commit("hold-replaced", "what a restart makes anew is proven given back")
UNUSED: Final = Commit("use-dropped", "a kernel does not use any more what others may use")
TERMINATING: Final = Commit("kernel-terminating", "an end has begun")
GONE: Final = Commit("container-gone", "a container is proven gone")
DIRTY: Final = Commit("holds-dirty", "something could not be given back")
TERMINATED: Final = Commit("kernel-terminated", "an end is complete")
CLEANED: Final = Commit("holds-cleaned", "something dirty was given back at last")

_COMMITS: Final = {
    KernelState.PREPARING: PREPARING,
    KernelState.RUNNING: RUNNING,
    KernelState.RESTARTING: RESTARTING,
    KernelState.TERMINATING: TERMINATING,
    KernelState.TERMINATED: TERMINATED,
}


class Journal:
    """The only writer of one kernel's rows.

    Attributes:
        row: The kernel as it is in the ledger.
        ledger_seconds: Time that this kernel has waited for commits.
        unsure: What was to be written when a commit failed; only the ledger knows whether it was.
    """

    def __init__(self, ledger: Ledger, bus: EventBus, row: KernelRow) -> None:
        self._ledger = ledger
        self._bus = bus
        self.row = row
        self.ledger_seconds = 0.0
        self._taken: list[HoldRow] = []
        self.unsure: list[HoldRow] = []
        self._order = 0
        self._known: dict[tuple[str, str], HoldRow] | None = None

    @property
    def state(self) -> KernelState:
        """The kernel's state."""
        return KernelState(self.row.state)

    def first(self, holds: Iterable[HoldRow]) -> Callable[[Transaction], EventRow]:
        """Return what writes the first row, with what is held from the beginning."""
        held = self._numbered(holds, HoldState.HELD)
        self._known = {(hold.kind, hold.key): hold for hold in held}

        def work(tx: Transaction) -> EventRow:
            tx.put_kernel(self.row)
            tx.put_holds(held)
            return _tell(tx, self.row, None, KernelState.PREPARING)

        return work

    async def change(
        self,
        state: KernelState,
        *,
        put: Sequence[HoldRow] = (),
        drop: Sequence[HoldRow] = (),
        mark: HoldState | None = None,
        **values: Any,
    ) -> None:
        """Go to another state, with changes of holds and of other values, and tell of it."""
        old = self.state
        check_transition(self.row.kernel_id, old, state)
        row = replace(self.row, state=state.value, version=self.row.version + 1, **values)
        commit = _COMMITS[state]
        await self._write(commit, row, put=put, drop=drop, mark=mark, tell=(old, state))
        self.row = row

    async def taking(self, holds: Sequence[HoldRow]) -> None:
        """Write what is about to be taken; what was being taken before is held now."""
        settled = [hold.moved(HoldState.HELD) for hold in self._taken]
        fresh = self._numbered(holds, HoldState.TAKING)
        self.unsure = fresh
        await self._write(TAKING, None, put=[*settled, *fresh])
        self._taken, self.unsure = fresh, []

    def go_on_after(self, held: Sequence[HoldRow]) -> None:
        """Number what is taken from now on after what is held."""
        self._order = max((hold.order for hold in held), default=-1) + 1

    async def others(self, hold: HoldRow) -> list[str]:
        """List the other kernels that hold the same thing."""
        holders = await self._ledger.read(lambda tx: tx.holders(hold.kind, hold.key))
        return [kernel_id for kernel_id in holders if kernel_id != hold.kernel_id]

    def settled(self) -> list[HoldRow]:
        """Return what was being taken as held, for the commit that ends the create."""
        settled = [hold.moved(HoldState.HELD) for hold in self._taken]
        self._taken = []
        return settled

    async def holds(self) -> list[HoldRow]:
        """List this kernel's holds in the order of taking.

        They are kept in mind while a kernel is built and while it ends; otherwise, and after a
        commit that was not seen to its end, only the ledger knows them.
        """
        known = self._known
        if known is None:
            held = await self._ledger.read(lambda tx: tx.holds(self.row.kernel_id))
            known = {(hold.kind, hold.key): hold for hold in held}
            if self.state in (KernelState.TERMINATING, KernelState.TERMINATED):
                self._known = known
        return sorted(known.values(), key=lambda hold: hold.order)

    def forget_holds(self) -> None:
        """Keep them in mind no longer: the kernel runs, and that may be long."""
        self._known = None

    async def drop(self, commit: Commit, holds: Sequence[HoldRow]) -> None:
        """Delete holds that are proven given back."""
        await self._write(commit, None, drop=holds)

    async def gone(self, hold: HoldRow, exit_code: int | None) -> None:
        """Delete the hold of a container that is proven gone, and keep how it ended."""
        known = self.row.exit_code
        code = exit_code if known is None else known
        row = replace(self.row, exit_code=code, version=self.row.version + 1)
        await self._write(GONE, row, drop=[hold])
        self.row = row

    async def refresh(self) -> None:
        """Read the row again: after a failed commit only the ledger knows whether it was made."""
        row = await self._ledger.read(lambda tx: tx.kernel(self.row.kernel_id))
        self.row = row or self.row
        self._bus.wake(self.row.kernel_id)

    async def dirty(self, hold: HoldRow, note: str) -> None:
        """Mark a hold that could not be given back."""
        marked = replace(hold, state=HoldState.DIRTY, note=note[:500])
        await self._write(DIRTY, None, put=[marked])

    def _numbered(self, holds: Iterable[HoldRow], state: HoldState) -> list[HoldRow]:
        numbered = []
        for hold in holds:
            numbered.append(hold.moved(state, self._order))
            self._order += 1
        return numbered

    async def _write(
        self,
        commit: Commit,
        row: KernelRow | None,
        *,
        put: Sequence[HoldRow] = (),
        drop: Sequence[HoldRow] = (),
        mark: HoldState | None = None,
        tell: tuple[KernelState | None, KernelState] | None = None,
    ) -> None:
        began = time.perf_counter()

        def work(tx: Transaction) -> list[EventRow]:
            if row is not None:
                tx.put_kernel(row)
            if mark is not None:
                tx.mark_holds(self.row.kernel_id, mark)
            tx.put_holds(put)
            tx.drop_holds(drop)
            return [*_told(tx, row, *tell)] if row is not None and tell is not None else []

        known, self._known = self._known, None
        told = await self._ledger.write(commit, work)
        if known is not None:
            self._known = _changed(known, put, drop, mark)
        self.ledger_seconds += time.perf_counter() - began
        if told:
            self._bus.published(told)


async def begin(
    ledger: Ledger, bus: EventBus, firsts: Sequence[tuple[Journal, Sequence[HoldRow]]]
) -> None:
    """Write the first rows of kernels that begin together, in one transaction, and tell of them."""
    works = [journal.first(holds) for journal, holds in firsts]
    bus.published(await ledger.write(PREPARING, lambda tx: [work(tx) for work in works]))


def _changed(
    known: dict[tuple[str, str], HoldRow],
    put: Iterable[HoldRow],
    drop: Iterable[HoldRow],
    mark: HoldState | None,
) -> dict[tuple[str, str], HoldRow]:
    """Follow what a transaction did to the holds."""
    if mark is not None:
        known = {name: hold.moved(mark) for name, hold in known.items()}
    known.update({(hold.kind, hold.key): hold for hold in put})
    for hold in drop:
        known.pop((hold.kind, hold.key), None)
    return known


def _told(
    tx: Transaction, row: KernelRow, old: KernelState | None, new: KernelState
) -> Iterator[EventRow]:
    """Tell a change, and with the end of a batch how that came out: by its transaction once."""
    yield _tell(tx, row, old, new)
    if new is KernelState.TERMINATING and row.spec.get(STARTUP):
        data = {"incarnation": row.incarnation, **_end_of(row)}
        ended_well = row.reason == Reason.TASK_FINISHED
        yield tx.add_event(OUTCOMES[ended_well], clock.wall(), **_whose(row), data=data)


def _tell(tx: Transaction, row: KernelRow, old: KernelState | None, new: KernelState) -> EventRow:
    data = {"from": old, "to": new, "incarnation": row.incarnation, **_end_of(row)}
    return tx.add_event(EVENTS[new], clock.wall(), **_whose(row), data=data)


def _whose(row: KernelRow) -> dict[str, str]:
    return {"kernel_id": row.kernel_id, "session_id": row.session_id}


def _end_of(row: KernelRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in ("reason", "message", "exit_code")}
    return {name: value for name, value in values.items() if value is not None}
