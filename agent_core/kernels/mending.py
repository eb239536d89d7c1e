"""Mending leaks when somebody asks for it: what is provably ours and past its grace goes back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from agent_core.kernels.leaks import Comparison, compare, stranger
from agent_core.kernels.reconciler import TOLD, Reconciler
from agent_core.kernels.services import Services
from agent_core.kernels.strangers import CONTAINER, Key, Policy, StrangerAction
from agent_core.wire.models import Leak
from agent_core.wire.reconciling import MendedLeak, Outcome

_ROUNDS: Final = 3
"""What one thing used is free for removal in the round after it."""


class Mending:
    """Gives back what `find_leaks` finds, as far as that is safe."""

    def __init__(self, services: Services, reconciler: Reconciler) -> None:
        self._services = services
        self._reconciler = reconciler
        self._watch = reconciler.strangers

    async def mend(self) -> list[MendedLeak]:
        """Give back what can be, and say of each leak what was done or why it was not.

        Raises:
            AgentError: when the ledger and the world cannot be compared; nothing was done.
        """
        comparison = await compare(self._services)
        if not comparison.leaks():
            return []
        ended: set[str | None] = set()
        if comparison.missing:
            done = await self._reconciler.look_at_kernels()
            ended = {row.key for row in done if row.outcome == "ending"}
        async with self._watch.lock:
            mended = await self._strangers()
        rows = [*mended.values(), *_others(comparison, ended)]
        return sorted(rows, key=lambda row: (row.kind, row.key))

    async def _strangers(self) -> dict[Key, MendedLeak]:
        mended: dict[Key, MendedLeak] = {}
        for _ in range(_ROUNDS):
            found = await compare(self._services)
            planned = self._watch.plan(found.things, found.recorded, Policy.REMOVE)
            actions = planned[:TOLD]  # the rest is for another time: an answer is bounded
            whys = await self._watch.carry_out(actions)
            mended.update({action.thing.name: _mended(action, whys) for action in actions})
            if None not in whys.values():
                break
        return mended


def _mended(action: StrangerAction, whys: Mapping[Key, str | None]) -> MendedLeak:
    leak = stranger(action.thing)
    if action.thing.name not in whys:
        return _row(leak, "left", action.because)
    why_not = whys[action.thing.name]
    if why_not is None:
        return _row(leak, "given-back", action.because)
    return _row(leak, "failed", why_not)


def _others(comparison: Comparison, ended: Collection[str | None]) -> list[MendedLeak]:
    """Say of what the ledger has and the world has not what becomes of it."""
    again = "it is tried again by itself, with growing pauses"
    rows = [_row(leak, "left", f"{leak.detail}: {again}") for leak in comparison.left_over]
    rows += [_missing(leak, ended) for leak in comparison.missing]
    restart = "it is restored when the agent starts"
    rows += [_row(leak, "left", f"{leak.detail}: {restart}") for leak in comparison.unclaimed]
    return rows


def _missing(leak: Leak, ended: Collection[str | None]) -> MendedLeak:
    if leak.kernel_id in ended:
        return _row(leak, "ending", f"{leak.detail}: its kernel is being ended")
    if leak.kind == CONTAINER:
        return _row(leak, "left", "it is not certain that it is gone")
    return _row(leak, "left", f"{leak.detail}: its kernel runs without it until it is destroyed")


def _row(leak: Leak, outcome: Outcome, because: str) -> MendedLeak:
    return MendedLeak(
        kind=leak.kind, key=leak.key, kernel_id=leak.kernel_id, outcome=outcome, because=because
    )
