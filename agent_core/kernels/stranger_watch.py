"""Looking for what exists and nobody holds: remembered, reported once, and removed by policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from agent_core import clock
from agent_core.contracts.errors import Reconciling
from agent_core.kernels.owners import Owners
from agent_core.kernels.removing import Removing
from agent_core.kernels.services import Services
from agent_core.kernels.sightings import listed
from agent_core.kernels.strangers import (
    CONTAINER,
    FirstSeen,
    Key,
    Policy,
    Recorded,
    Rules,
    StrangerAction,
    StrangerVerdict,
    Thing,
    plan_strangers,
)
from agent_core.kernels.survey import RUN_DIR, recorded_of, survey
from agent_core.wire.reconciling import Reconciled

log = structlog.get_logger(__name__)

AT_ONCE: Final = 8
"""Strangers that are removed at once; one that hangs keeps few others."""


@dataclass(frozen=True, slots=True)
class _Owned:
    kernels: frozenset[str]
    containers: frozenset[str]
    run_dirs: frozenset[str]

    def has(self, thing: Thing) -> bool:
        if thing.kind == CONTAINER:
            return thing.key in self.containers
        if thing.kind == RUN_DIR:
            return thing.key in self.run_dirs
        return thing.kernel_id in self.kernels


class StrangerWatch:
    """Knows since when each stranger has been there, and deals with them one look at a time."""

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners
        self._removing = Removing(services, owners)
        self._first_seen = FirstSeen()
        self._reported: set[Key] = set()
        self.lock = asyncio.Lock()

    @property
    def reported(self) -> int:
        """How many things the last look found to be held by nobody."""
        return len(self._reported)

    async def look(self, *, act: bool = True) -> list[Reconciled]:
        """Look at everything that no owner has; without `act` only say what would be done.

        Raises:
            AgentError: when containers or scratches cannot be listed; nothing was done.
        """
        async with self.lock:
            everything = await survey(self._services, await listed(self._services))
            things = await asyncio.to_thread(_without, everything, self._owned())
            recorded = await recorded_of(self._services, things)
            actions = self.plan(things, recorded, self._services.settings.stranger_policy)
            self._report(actions)
            whys = await self.carry_out(actions) if act else {}
        return [_row(action, _outcome(action, whys)) for action in actions]

    def plan(
        self, things: Sequence[Thing], recorded: Recorded, policy: str
    ) -> list[StrangerAction]:
        """Decide about strangers, and remember since when each is seen.

        Raises:
            Reconciling: when the ledger was lost and does not know yet what is held.
        """
        if why := self._services.ledger.reconciling:
            raise Reconciling(f"the ledger was lost, and it is not known yet what is held: {why}")
        settings, now = self._services.settings, clock.boottime()
        rules = Rules(settings.agent_id, Policy(policy), settings.stranger_grace)
        unheld = [thing.name for thing in things if thing.name not in recorded.held]
        seen = self._first_seen.look(unheld, now)
        return plan_strangers(things, recorded, seen, now, rules)

    async def carry_out(self, actions: Sequence[StrangerAction]) -> dict[Key, str | None]:
        """Remove what is to be removed; return for each None, or why it could not be."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def remove(thing: Thing) -> tuple[Key, str | None]:
            async with turns:
                return thing.name, await self._removing.remove(thing)

        doomed = [a.thing for a in actions if a.verdict is StrangerVerdict.REMOVE]
        return dict(await asyncio.gather(*map(remove, doomed)))

    def _owned(self) -> _Owned:
        """Name what is of kernels with an owner, which knows best."""
        owners = [*self._owners]
        return _Owned(
            frozenset(owner.kernel_id for owner in owners),
            frozenset(owner.journal.row.container or "" for owner in owners),
            frozenset(str(owner.build.run_dir) for owner in owners),
        )

    def _report(self, actions: Sequence[StrangerAction]) -> None:
        """Log each stranger once, when it becomes one."""
        strange = {a.thing.name: a for a in actions if a.verdict is StrangerVerdict.REPORT}
        for (kind, key), action in strange.items():
            if (kind, key) not in self._reported:
                log.warning("a stranger", kind=kind, key=key, because=action.because)
        self._reported = set(strange)


def _without(things: Sequence[Thing], owned: _Owned) -> list[Thing]:
    return [thing for thing in things if not owned.has(thing)]


def _outcome(action: StrangerAction, whys: dict[Key, str | None]) -> str:
    if action.thing.name not in whys:
        return ""
    why_not = whys[action.thing.name]
    return "removed" if why_not is None else f"failed: {why_not}"


def _row(action: StrangerAction, done: str) -> Reconciled:
    thing = action.thing
    return Reconciled(
        kind=thing.kind,
        key=thing.key,
        kernel_id=thing.kernel_id,
        verdict=action.verdict,
        because=action.because,
        outcome=done,
    )
