"""Going on where an earlier agent stopped: claims restored, kernels adopted, ended or finished."""

from __future__ import annotations

import asyncio

import structlog

from agent_core.contracts.backend import ContainerStatus
from agent_core.contracts.device import Claim
from agent_core.contracts.errors import AgentError
from agent_core.kernels.claims import claim_from_data
from agent_core.kernels.reconcile import plan
from agent_core.kernels.service import KernelService
from agent_core.kernels.services import Services
from agent_core.ledger import HoldRow, KernelRow

log = structlog.get_logger(__name__)


async def adopt_all(services: Services, kernels: KernelService) -> None:
    """Restore every claim, then take over every kernel that has not ended or still holds."""
    rows, holds = await services.ledger.read(lambda tx: (tx.kernels(), tx.holds()))
    _restore(services, holds)
    holding = {hold.kernel_id for hold in holds}
    left = [row for row in rows if row.ended_at is None or row.kernel_id in holding]
    seen = await _sightings(services) if left else {}
    for row in left:
        sighting = await _confirmed(services, row, seen)
        action = plan(row, sighting, rebooted=services.ledger.boot_changed)
        log.info(
            "kernel found",
            kernel_id=row.kernel_id,
            verdict=action.verdict.value,
            because=action.because,
        )
        await kernels.adopt(row, action.ending)


def _restore(services: Services, holds: list[HoldRow]) -> None:
    for hold in holds:
        if hold.kind == "claim":
            _restore_one(services, claim_from_data(hold.undo))


def _restore_one(services: Services, claim: Claim) -> None:
    # The kernel runs all the same, and what it has must not be given to another.
    overdrawn = services.allocator.restore(claim)
    if overdrawn:
        log.warning("a restored claim does not fit any more", claim=claim.id, because=overdrawn)


async def _sightings(services: Services) -> dict[str, ContainerStatus] | None:
    """List the backend's containers by name; None when nobody can tell."""
    try:
        async with asyncio.timeout(services.settings.call_timeout):
            found = await services.backend.list(services.settings.agent_id)
    except (AgentError, TimeoutError) as exc:
        log.warning("the backend does not answer; every kernel is left as it is", error=str(exc))
        return None
    return {status.name: status for status in found}


async def _confirmed(
    services: Services, row: KernelRow, seen: dict[str, ContainerStatus] | None
) -> ContainerStatus | None:
    """What the list does not have is looked up once more by itself before it counts as absent."""
    if seen is None or row.container is None:
        return None
    if row.container in seen:
        return seen[row.container]
    try:
        async with asyncio.timeout(services.settings.call_timeout):
            return await services.backend.inspect(row.container)
    except (AgentError, TimeoutError):
        return None
