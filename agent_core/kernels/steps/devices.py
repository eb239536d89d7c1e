"""Devices: prepared by their plugins, and what the container needs of them merged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent_core.contracts.device import Claim
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.scratch import Scratch
from agent_core.failpoints import Effect
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.claims import claim_from_data, claim_to_data
from agent_core.kernels.launching import CONFIG
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow

PREPARE = Effect("device-prepare", "a plugin takes the devices of a claim")
RELEASE = Effect("device-release", "a plugin gives the devices of a claim back")


class DevicesStep(Step):
    """Prepares each claim by its plugin, or has it described where there is nothing to take."""

    name = "devices"
    kind = "device"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold for each claim that is prepared, keyed by its id."""
        return [
            HoldRow(self.kind, c.id, c.kernel_id, c.incarnation, undo=claim_to_data(c))
            for c in build.claims
            if self.services.devices.is_taken(c.plugin)
        ]

    async def take(self, build: Assembly) -> None:
        """Prepare each claim and merge the edits."""
        for claim in build.claims:
            if self.services.devices.is_taken(claim.plugin):
                edits = await self._prepared(claim, build.scratch)
            else:
                edits = await self.services.devices.describe(claim)
            build.edits = build.edits | MergedEdits.of(claim.plugin, edits)

    async def _prepared(self, claim: Claim, scratch: Scratch | None) -> ContainerEdits:
        config_dir = ""
        if scratch is not None and scratch.path:
            own = Path(scratch.path) / CONFIG / claim.plugin
            await asyncio.to_thread(own.mkdir, parents=True, exist_ok=True)
            config_dir = str(own)
        with PREPARE:
            return await self.services.devices.prepare(claim, config_dir)

    async def give_back(self, hold: HoldRow) -> None:
        """Release one claim."""
        with RELEASE:
            await self.services.devices.release(claim_from_data(hold.undo))
