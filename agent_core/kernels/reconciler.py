"""Comparing the ledger with the world: looked at in slices, planned purely, acted upon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from agent_core.contracts.errors import AgentError
from agent_core.kernels.owner import Owner
from agent_core.kernels.owners import Owners
from agent_core.kernels.reconcile import Action, Known, Verdict, plan
from agent_core.kernels.services import Services
from agent_core.kernels.sightings import Listing, list_containers, look_for
from agent_core.kernels.states import KernelState
from agent_core.kernels.stranger_watch import StrangerWatch
from agent_core.wire.reconciling import Reconciled, Reconciliation

log = structlog.get_logger(__name__)

SLICE: Final = 100
"""Kernels that are looked at in one go; everybody else has a turn in between."""

TOLD: Final = 5000
"""Rows that an answer has at the most: it has to fit into one frame."""


@dataclass(slots=True)
class _Round:
    """What one round has found so far."""

    act: bool
    kernels: int = 0
    agreed: int = 0
    rows: list[Reconciled] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Reconciler:
    """Compares what the ledger says with what is there.

    Attributes:
        strangers: Looks for what the ledger does not know.
    """

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners
        self.strangers = StrangerWatch(services, owners)

    async def look(self, *, act: bool = True) -> Reconciliation:
        """Look at everything once; without `act` only say what would be done."""
        found = _Round(act)
        await self._kernels(found)
        await self._nobodys(found)
        try:
            found.rows.extend(await self.strangers.look(act=act))
        except AgentError as exc:
            found.warnings.append(f"what nobody holds is not known: {exc.message}")
        if len(found.rows) > TOLD:
            found.warnings.append(f"{len(found.rows) - TOLD} more are not shown")
        return Reconciliation(
            dry_run=not act,
            kernels=found.kernels,
            agreed=found.agreed,
            actions=found.rows[:TOLD],
            warnings=tuple(found.warnings),
        )

    async def look_at_kernels(self) -> list[Reconciled]:
        """End the kernels whose containers have ended or are gone, as far as that is certain."""
        found = _Round(act=True)
        await self._kernels(found)
        return found.rows

    async def _kernels(self, found: _Round) -> None:
        listing = await list_containers(self._services)
        if listing is None:
            found.warnings.append("containers cannot be listed: kernels are left as they are")
        for owners in _slices([*self._owners]):
            await self._look_at(owners, listing, found)
            await asyncio.sleep(0)

    async def _look_at(
        self, owners: Sequence[Owner], listing: Listing | None, found: _Round
    ) -> None:
        known = [_known(owner) for owner in owners]
        seen = await look_for(self._services, [k.row for k in known if not k.busy], listing)
        for owner, before, action in zip(owners, known, plan(known, seen), strict=True):
            found.kernels += 1
            if action.verdict is Verdict.ADOPT:
                found.agreed += 1
                continue
            done = _end(owner, before, action) if found.act and action.ending is not None else ""
            found.rows.append(_row(action, done))

    async def _nobodys(self, found: _Round) -> None:
        """Tell of kernels that have not ended and that nobody could take over."""
        rows = await self._services.ledger.read(lambda tx: tx.kernels(include_ended=False))
        because = "nobody owns it: it could not be taken over when the agent started"
        for row in rows:
            if row.kernel_id not in self._owners:
                found.kernels += 1
                action = Action(row.kernel_id, row.version, Verdict.LEAVE, because)
                found.rows.append(_row(action, ""))


def _known(owner: Owner) -> Known:
    return Known(owner.journal.row, owner.since, owner.journal.state is not KernelState.RUNNING)


def _end(owner: Owner, before: Known, action: Action) -> str:
    """Post an end, unless the kernel has changed since that was decided."""
    moved_on = owner.journal.row.version != action.version or owner.since != before.since
    if moved_on or action.ending is None:
        return "dropped: it has changed meanwhile"
    log.info("kernel ended", kernel_id=owner.kernel_id, because=action.because)
    owner.post(action.ending)
    return "ending"


def _slices(owners: Sequence[Owner]) -> Iterator[Sequence[Owner]]:
    for start in range(0, len(owners), SLICE):
        yield owners[start : start + SLICE]


def _row(action: Action, done: str) -> Reconciled:
    kernel_id = action.kernel_id
    return Reconciled(
        kind="kernel",
        key=kernel_id,
        kernel_id=kernel_id,
        verdict=action.verdict,
        because=action.because,
        outcome=done,
    )
