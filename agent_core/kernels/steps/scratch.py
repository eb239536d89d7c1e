"""Scratch: the kernel's own directory, with the places that it finds in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import AgentError, PluginContractBroken
from agent_core.contracts.scratch import Scratch
from agent_core.failpoints import Effect
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.launching import CONFIG, WORK
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow

log = structlog.get_logger(__name__)

CREATE = Effect("scratch-create", "scratch storage is created")
DESTROY = Effect("scratch-destroy", "scratch storage is destroyed")


class ScratchStep(Step):
    """Creates the scratch by the selected scratch manager."""

    name = "scratch"
    kind = "scratch"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold, keyed by the kernel."""
        kernel_id = build.spec.kernel_id
        return [HoldRow(self.kind, kernel_id, kernel_id, build.incarnation)]

    async def take(self, build: Assembly) -> None:
        """Create the scratch and its work and config directories."""
        size = build.spec.scratch_size
        default = self.services.settings.scratch_size
        limit = Amount.parse_size(size).value if size is not None else default
        with CREATE:
            made = await self.services.scratch.call(
                "create", build.spec.kernel_id, limit, lane="storage"
            )
        if not isinstance(made, Scratch):
            name = self.services.scratch.info.name
            raise PluginContractBroken(
                f"scratch {name!r} answered create with {type(made).__name__}",
                plugin=name,
                stage="create",
            )
        build.scratch = made
        if made.path:  # a simulated scratch is nowhere
            async with asyncio.timeout(self.services.settings.call_timeout):
                await asyncio.to_thread(_layout, Path(made.path))

    async def give_back(self, hold: HoldRow) -> None:
        """Destroy the scratch with all that is in it."""
        await self._collect_cores(hold.key)
        with DESTROY:
            await self.services.scratch.call("destroy", hold.key, lane="storage")

    async def _collect_cores(self, kernel_id: str) -> None:
        cores = self.services.settings.cores
        if cores is None:
            return
        try:
            found = await self.services.scratch.call("list", lane="storage")
        except AgentError as exc:
            # What is only kept for a debugger must keep no kernel from ending.
            log.warning("core files were not looked for", kernel_id=kernel_id, error=exc.message)
            return
        for scratch in found:
            if scratch.kernel_id == kernel_id and scratch.path:
                await asyncio.to_thread(cores.collect, kernel_id, Path(scratch.path) / WORK)


def _layout(scratch: Path) -> None:
    for name in (WORK, CONFIG):
        (scratch / name).mkdir(exist_ok=True)
    (scratch / CONFIG / "runner").mkdir(exist_ok=True)
