"""Decisions about slots as the wire shows them: those to be, and those that were taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from agent_core.contracts.device import Claim
from agent_core.kernels.claims import claim_from_data
from agent_core.ledger import HoldRow, KernelRow
from agent_core.resources.usage import Plan
from agent_core.wire import decisions as d
from agent_core.wire.models import GrantRow


def plan_of(kernel_id: str, plan: Plan) -> d.Plan:
    """Show what a create would get."""
    return d.Plan(
        kernel_id=kernel_id,
        granted=plan.refusal is None,
        grants=grants_of(plan.claims),
        slots=tuple(d.SlotDecision.model_validate(slot) for slot in plan.summary()),
        refusal=plan.refusal.to_dict() if plan.refusal is not None else None,
    )


def explanation_of(
    row: KernelRow, holds: Sequence[HoldRow], quarantined: Mapping[str, str]
) -> d.Explanation:
    """Show why a kernel has what it has.

    Args:
        row: The kernel.
        holds: What it holds; each claim was written with what it was decided by.
        quarantined: What claims stand on that has gone or that nobody reports now, by claim.
    """
    claims = [hold for hold in holds if hold.kind == "claim"]
    slots: list[d.SlotDecision] = []
    notes: list[str] = []
    for hold in claims:
        told = _decisions(hold)
        slots += told
        if not told:
            notes.append(f"claim {hold.key}: why it was given was not recorded")
        if hold.key in quarantined:
            notes.append(f"claim {hold.key}: {quarantined[hold.key]}; it stands")
    if not claims:
        ended = row.ended_at is not None
        notes.append("it has ended and holds nothing" if ended else "it asked for no slot")
    return d.Explanation(
        kernel_id=row.kernel_id,
        state=row.state,
        incarnation=row.incarnation,
        grants=grants_of(claim_from_data(hold.undo) for hold in claims),
        slots=tuple(slots),
        notes=tuple(notes),
    )


def grants_of(claims: Iterable[Claim]) -> tuple[GrantRow, ...]:
    """List the grants of claims."""
    return tuple(
        GrantRow(plugin=c.plugin, slot=g.slot, device_id=g.device_id, amount=str(g.amount))
        for c in claims
        for g in c.grants
    )


def _decisions(hold: HoldRow) -> list[d.SlotDecision]:
    why: Any = hold.undo.get("why", [])
    try:
        return [d.SlotDecision.model_validate(slot) for slot in why]
    except (ValidationError, TypeError):  # written by another version: the grants are still told
        return []
