"""What the backend says of this agent's containers, and what only a second look makes certain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from agent_core import clock
from agent_core.contracts.backend import ContainerStatus, Presence
from agent_core.contracts.errors import AgentError
from agent_core.kernels.asking import ask
from agent_core.kernels.reconcile import Sighting
from agent_core.kernels.services import Services
from agent_core.ledger import KernelRow

log = structlog.get_logger(__name__)

T = TypeVar("T")

Sightings = Mapping[str, Sighting]
"""By kernel id; a kernel of whose container nothing is known is missing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The backend's list of this agent's containers, and when it was asked for and answered."""

    containers: Mapping[str, ContainerStatus]
    began: float
    ended: float


async def list_containers(services: Services) -> Listing | None:
    """List the backend's containers by name; None when nobody can tell."""
    try:
        return await listed(services)
    except AgentError as exc:
        log.warning("containers are not known; kernels are left as they are", error=exc.message)
        return None


async def listed(services: Services) -> Listing:
    """List the backend's containers by name.

    Raises:
        AgentError: when nobody can tell.
    """
    asking = services.backend.list(services.settings.agent_id)
    found, began, ended = await _timed(ask(services, asking, "list"))
    return Listing({status.name: status for status in found}, began, ended)


async def look_for(
    services: Services, rows: Iterable[KernelRow], listing: Listing | None
) -> Sightings:
    """Observe the containers of some kernels.

    What the list does not have is looked up once more by itself before it counts as absent; one
    that does not answer delays no other.
    """
    if listing is None:
        return {}
    seen: dict[str, Sighting] = {}
    unlisted: list[KernelRow] = []
    for row in rows:
        status = listing.containers.get(row.container or "")
        if status is not None and status.presence is not Presence.ABSENT:
            seen[row.kernel_id] = _sighting(status, listing.began, listing.ended)
        elif row.container:
            unlisted.append(row)
    found = await asyncio.gather(*(_inspected(services, row.container or "") for row in unlisted))
    looked_up = zip(unlisted, found, strict=True)
    return seen | {row.kernel_id: sighting for row, sighting in looked_up if sighting is not None}


async def _inspected(services: Services, name: str) -> Sighting | None:
    asking = services.backend.inspect(name)
    try:
        return _sighting(*await _timed(ask(services, asking, "inspect")))
    except AgentError as exc:
        log.warning("a container is not known; it is left alone", container=name, error=exc.message)
        return None


async def _timed(answer: Awaitable[T]) -> tuple[T, float, float]:
    began = clock.monotonic()
    return await answer, began, clock.monotonic()


def _sighting(status: ContainerStatus, began: float, ended: float) -> Sighting:
    # A backend may answer from what it saw before it was asked, but never from what comes later.
    began = min(began, status.began or began)
    return Sighting(status.presence, began, ended, status.state, status.exit)
