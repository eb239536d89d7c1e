"""Slots: reserved in the ledger together with PREPARING, before the owner begins."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from agent_core.contracts.errors import NotFound
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.claims import explained
from agent_core.kernels.steps.base import Step
from agent_core.kernels.telling import tell_allocations
from agent_core.ledger import HoldRow


class ClaimsStep(Step):
    """The kernel's claims; a row of the ledger is all there is to them.

    The allocator learns that a claim is free when the row's deletion is durable, from the owner.
    """

    name = "slots"
    kind = "claim"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold for each plugin's claim."""
        return [
            HoldRow(self.kind, c.id, c.kernel_id, c.incarnation, undo=explained(c, build.why))
            for c in build.claims
        ]

    def freed(self, hold: HoldRow) -> None:
        """Let the allocator give it again."""
        with contextlib.suppress(NotFound):  # it was never restored: nothing to free
            self.services.allocator.release(hold.key)
        tell_allocations(self.services, hold.kernel_id, "giving back")
