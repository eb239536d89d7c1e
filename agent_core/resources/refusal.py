"""Saying no so that a person knows why, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import AgentError, InsufficientResource, bullet_list
from agent_core.resources.shelf import ShelfSlot
from agent_core.resources.trace import TraceStep, render


def raise_all(refusals: Iterable[AgentError]) -> None:
    """Raise nothing, the one error there is, or the first with all of them in its message.

    Raises:
        AgentError: of the class of the first; ``details.faults`` holds all of them.
    """
    faults = list(refusals)
    if not faults:
        return
    first = faults[0]
    if len(faults) == 1:
        raise first
    raise type(first)(
        bullet_list([fault.message for fault in faults]),
        hint=first.hint,
        details={**first.details, "faults": [fault.to_dict() for fault in faults]},
    )


def insufficient(
    name: str,
    asked: Amount,
    free: Amount,
    total: Amount,
    slot: ShelfSlot,
    steps: Sequence[TraceStep],
) -> InsufficientResource:
    """Describe that a slot is short of what was asked."""
    withheld = len(slot.withheld)
    but = f"; {withheld} more devices get no new grants, see their health" if withheld else ""
    missing = asked - free if asked > free else Amount(0)
    return InsufficientResource(
        f"{name}={asked} cannot be given: {free} free of {total}{but}",
        details={
            "slot": name,
            "requested": str(asked),
            "free": str(free),
            "total": str(total),
            "missing": str(missing),
            "withheld": dict(slot.reasons),
            "trace": render(steps),
        },
    )


def overdrawn(
    claim_id: str, draws: Mapping[str, int], left: Mapping[str, int]
) -> InsufficientResource:
    """Describe a claim that cannot be restored, since others hold what it held."""
    return InsufficientResource(
        f"claim {claim_id!r} cannot be restored: it draws {dict(draws)}, and {dict(left)} is left",
        hint="Another claim holds the same device; `agentctl leaks` shows what is held.",
        details={"claim": claim_id, "draws": dict(draws), "free": dict(left)},
    )
