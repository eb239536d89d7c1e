"""Claims as plain JSON data, for the ledger's undo records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Grant


def claim_to_data(claim: Claim) -> dict[str, Any]:
    """Render a claim; amounts become decimal strings."""
    return {
        "id": claim.id,
        "kernel_id": claim.kernel_id,
        "incarnation": claim.incarnation,
        "plugin": claim.plugin,
        "grants": [[g.slot, g.device_id, str(g.amount)] for g in claim.grants],
    }


def explained(claim: Claim, why: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Render a claim with what was decided of its slots, for `agentctl explain`."""
    own = [dict(slot) for slot in why if slot.get("plugin") == claim.plugin]
    return {**claim_to_data(claim), "why": own}


def claim_from_data(data: Mapping[str, Any]) -> Claim:
    """Rebuild a claim that `claim_to_data` rendered."""
    grants = tuple(Grant(slot, dev, Amount.parse(amount)) for slot, dev, amount in data["grants"])
    return Claim(data["id"], data["kernel_id"], data["incarnation"], data["plugin"], grants)
