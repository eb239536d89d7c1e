"""Saying no so that a person knows why, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import AgentError, InsufficientResource, bullet_list
from agent_core.resources.deciding import Outcome
from agent_core.resources.remedies import Remedy
from agent_core.resources.trace import render, steps


def raise_all(refusals: Iterable[AgentError]) -> None:
    """Raise nothing, the one error there is, or the first with all of them in its message.

    Raises:
        AgentError: of the class of the first; ``details.faults`` holds all of them.
    """
    faults = list(refusals)
    if faults:
        raise combined(faults)


def combined(faults: Sequence[AgentError]) -> AgentError:
    """Return the one error there is, or one that holds them all."""
    first = faults[0]
    if len(faults) == 1:
        return first
    return type(first)(
        bullet_list([fault.message for fault in faults]),
        hint=" ".join(dict.fromkeys(fault.hint for fault in faults if fault.hint)) or None,
        details={**first.details, "faults": [fault.to_dict() for fault in faults]},
    )


def insufficient(outcome: Outcome, total: Amount, found: Sequence[Remedy]) -> InsufficientResource:
    """Describe that a slot is short of what was asked, and what would make it fit."""
    want, slot = outcome.want, outcome.want.slot
    asked, free = want.asked, slot.amount(outcome.free)
    withheld = len(slot.withheld)
    but = f"; {withheld} more are withheld, `agentctl devices list` says why" if withheld else ""
    missing = asked - free if asked > free else Amount(0)
    return InsufficientResource(
        f"{want.name}={asked} cannot be given: {free} free of {total}{but}",
        hint=advice(found),
        details={
            "slot": want.name,
            "requested": str(asked),
            "free": str(free),
            "total": str(total),
            "missing": str(missing),
            "withheld": dict(slot.reasons),
            "trace": render(steps(outcome)),
            "remedies": [asdict(remedy) for remedy in found],
        },
    )


def advice(found: Sequence[Remedy]) -> str | None:
    """Put remedies into one sentence; None when there are none."""
    text = ", or ".join(remedy.text for remedy in found)
    return f"{text[0].upper()}{text[1:]}." if text else None


def overdrawn(
    claim_id: str, draws: Mapping[str, int], left: Mapping[str, int]
) -> InsufficientResource:
    """Describe a claim that cannot be restored, since others hold what it held."""
    return InsufficientResource(
        f"claim {claim_id!r} cannot be restored: it draws {dict(draws)}, and {dict(left)} is left",
        hint="Another claim holds the same device; `agentctl leaks` shows what is held.",
        details={"claim": claim_id, "draws": dict(draws), "free": dict(left)},
    )
