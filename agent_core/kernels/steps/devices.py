"""Devices: prepared by their plugins, and what the container needs of them merged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent_core.contracts.edits import MergedEdits
from agent_core.failpoints import Effect
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.claims import claim_from_data, claim_to_data
from agent_core.kernels.steps.base import Step
from agent_core.kernels.steps.scratch import CONFIG
from agent_core.ledger import HoldRow

PREPARE = Effect("device-prepare", "a plugin takes the devices of a claim")
RELEASE = Effect("device-release", "a plugin gives the devices of a claim back")


class DevicesStep(Step):
    """Prepares each claim by its plugin."""

    name = "devices"
    kind = "device"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold for each claim, keyed by its id."""
        return [
            HoldRow(self.kind, c.id, c.kernel_id, c.incarnation, undo=claim_to_data(c))
            for c in build.claims
        ]

    async def take(self, build: Assembly) -> None:
        """Prepare each claim and merge the edits."""
        root = Path(build.scratch.path if build.scratch else "") / CONFIG
        for claim in build.claims:
            own = root / claim.plugin
            await asyncio.to_thread(own.mkdir, parents=True, exist_ok=True)
            with PREPARE:
                edits = await self.services.devices.prepare(claim, str(own))
            build.edits = build.edits | MergedEdits.of(claim.plugin, edits)

    async def give_back(self, hold: HoldRow) -> None:
        """Release one claim."""
        with RELEASE:
            await self.services.devices.release(claim_from_data(hold.undo))
