"""The ledger against the world, in both directions: what is held by nobody, and what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_core.contracts.backend import Presence
from agent_core.kernels.services import Services
from agent_core.kernels.sightings import listed
from agent_core.kernels.states import KernelState
from agent_core.kernels.strangers import CLAIM, CONTAINER, Key, Recorded, Thing
from agent_core.kernels.survey import PORT, RUN_DIR, SCRATCH, recorded, survey
from agent_core.ledger import HoldRow, HoldState, KernelRow
from agent_core.wire.models import Leak

_SEEN: Final = (CONTAINER, SCRATCH, RUN_DIR)
"""Kinds of holds whose things can always be seen; a prepared device may leave no trace."""

_Holds = Mapping[tuple[str, str, str], HoldRow]
"""By kind, key and kernel: several kernels may hold one thing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ledger and the world, and where they differ.

    Attributes:
        things: All that exists.
        recorded: What the ledger says of it.
        strangers: What exists without a hold.
        left_over: Holds of kernels that have ended, or that could not be given back.
        missing: What a running kernel holds and what is not there.
        unclaimed: Claims and ports that whoever gives them does not know.
    """

    things: tuple[Thing, ...]
    recorded: Recorded
    strangers: tuple[Leak, ...]
    left_over: tuple[Leak, ...]
    missing: tuple[Leak, ...]
    unclaimed: tuple[Leak, ...]

    def leaks(self) -> list[Leak]:
        """List every difference."""
        found = [*self.strangers, *self.left_over, *self.missing, *self.unclaimed]
        return sorted(found, key=lambda leak: (leak.kind, leak.key))


_GIVERS: Final = {CLAIM: "the allocator", PORT: "the pool of ports"}


async def find_leaks(services: Services) -> list[Leak]:
    """List everything that exists without a hold, and every hold without its thing or its kernel.

    Raises:
        AgentError: when containers or scratches cannot be listed.
    """
    return (await compare(services)).leaks()


async def compare(services: Services) -> Comparison:
    """Compare the ledger with the world.

    The ledger is read before and after the world, so that what is being taken or given back at
    this moment is no leak.

    Raises:
        AgentError: as `find_leaks`.
    """
    before, _ = await _ledger(services)
    things = await survey(services, await listed(services))
    after, kernels = await _ledger(services)
    # Of thousands of kernels these are many, and the loop has others to serve meanwhile.
    return await asyncio.to_thread(
        _compared, services.settings.agent_id, things, before, after, kernels
    )


def _compared(
    agent_id: str,
    everything: Iterable[Thing],
    before: _Holds,
    after: _Holds,
    kernels: Mapping[str, KernelRow],
) -> Comparison:
    things = [t for t in everything if t.presence is not Presence.ABSENT]
    held: list[Key] = [(kind, key) for kind, key, _ in [*before, *after]]
    known = recorded(held, {k: row.ended_at is not None for k, row in kernels.items()})
    strange = [t for t in things if t.name not in known.held and t.owner in (None, agent_id)]
    present = {thing.name for thing in things}
    return Comparison(
        things=tuple(things),
        recorded=known,
        strangers=tuple(stranger(thing) for thing in strange),
        left_over=tuple(_left_over(after.values(), kernels)),
        missing=tuple(_missing(before, after, kernels, _present(things, before))),
        unclaimed=tuple(_unclaimed(before, after, present)),
    )


async def _ledger(services: Services) -> tuple[_Holds, Mapping[str, KernelRow]]:
    holds, kernels = await services.ledger.read(lambda tx: (tx.holds(), tx.kernels()))
    return {(h.kind, h.key, h.kernel_id): h for h in holds}, {k.kernel_id: k for k in kernels}


def _left_over(holds: Iterable[HoldRow], kernels: Mapping[str, KernelRow]) -> Iterator[Leak]:
    """Holds of kernels that have ended: being tried again, and not free."""
    for hold in holds:
        kernel = kernels.get(hold.kernel_id)
        if kernel is None or kernel.ended_at is not None:
            yield _leak(hold, hold.note or "its kernel has ended")
        elif hold.state is HoldState.DIRTY:
            yield _leak(hold, hold.note)


def _present(things: Iterable[Thing], holds: _Holds) -> set[Key]:
    """Name what is there; a kernel keeps the run directory that its runner was started with."""
    run_dirs = [hold.key for hold in holds.values() if hold.kind == RUN_DIR]
    there = [path for path in run_dirs if Path(path).is_dir()]
    return {thing.name for thing in things} | {(RUN_DIR, path) for path in there}


def _missing(
    before: _Holds, after: _Holds, kernels: Mapping[str, KernelRow], present: Collection[Key]
) -> Iterator[Leak]:
    """What the ledger says is held by a running kernel, and is not there."""
    for name, hold in before.items():
        kernel = kernels.get(hold.kernel_id)
        settled = hold.state is HoldState.HELD and after.get(name) == hold
        if hold.kind not in _SEEN or not settled or (hold.kind, hold.key) in present:
            continue
        if kernel is not None and kernel.state == KernelState.RUNNING:
            yield _leak(hold, "the ledger holds it, and it is not there")


def _unclaimed(before: _Holds, after: _Holds, present: Collection[Key]) -> Iterator[Leak]:
    """Claims and ports that the ledger has and their giver does not know: given twice, maybe."""
    for name, hold in before.items():
        giver = _GIVERS.get(hold.kind)
        if giver and name in after and (hold.kind, hold.key) not in present:
            yield _leak(hold, f"the ledger holds it, {giver} does not know it")


def stranger(thing: Thing) -> Leak:
    """Show a thing that nobody holds."""
    return Leak(
        kind=thing.kind,
        key=thing.key,
        kernel_id=thing.kernel_id,
        state=thing.state,
        detail=thing.detail,
    )


def _leak(hold: HoldRow, detail: str) -> Leak:
    return Leak(
        kind=hold.kind, key=hold.key, kernel_id=hold.kernel_id, state=hold.state, detail=detail
    )
