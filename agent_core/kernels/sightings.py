"""What the backend says of this agent's containers, and what only a second look makes certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from agent_core.contracts.backend import ContainerStatus
from agent_core.contracts.errors import AgentError
from agent_core.kernels.asking import ask
from agent_core.kernels.services import Services
from agent_core.ledger import KernelRow

log = structlog.get_logger(__name__)

Sightings = Mapping[str, ContainerStatus]
"""By kernel id; a kernel of whose container nothing is known is missing."""


async def look_for(services: Services, rows: Iterable[KernelRow]) -> Sightings:
    """Observe the containers of some kernels.

    What the list does not have is looked up once more by itself before it counts as absent; one
    that does not answer delays no other.
    """
    listed = await _listed(services)
    if listed is None:
        return {}

    async def one(row: KernelRow) -> tuple[str, ContainerStatus | None]:
        name = row.container or ""
        return row.kernel_id, listed.get(name) or await _inspected(services, name)

    found = await asyncio.gather(*(one(row) for row in rows if row.container))
    return {kernel_id: status for kernel_id, status in found if status is not None}


async def _listed(services: Services) -> dict[str, ContainerStatus] | None:
    """List the backend's containers by name; None when nobody can tell."""
    try:
        found = await ask(services, services.backend.list(services.settings.agent_id), "list")
    except AgentError as exc:
        log.warning("containers are not known; kernels are left as they are", error=exc.message)
        return None
    return {status.name: status for status in found}


async def _inspected(services: Services, name: str) -> ContainerStatus | None:
    try:
        return await ask(services, services.backend.inspect(name), "inspect")
    except AgentError as exc:
        log.warning("a container is not known; it is left alone", container=name, error=exc.message)
        return None
