"""The ledger against the world, in both directions: what is held by nobody, and what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from agent_core.contracts.backend import ContainerStatus, Presence
from agent_core.kernels.asking import ask
from agent_core.kernels.services import Services
from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, HoldState, KernelRow
from agent_core.wire.models import Leak

_Holds = Mapping[tuple[str, str], HoldRow]
_Found = dict[tuple[str, str], tuple[str | None, str, str]]
"""What exists by kind and key: its kernel, its state, and where it is."""

_GIVERS: Final = {"claim": "the allocator", "port": "the pool of ports"}


async def find_leaks(services: Services) -> list[Leak]:
    """List everything that exists without a hold, and every hold without its thing or its kernel.

    The ledger is read before and after the world, so that what is being taken or given back at
    this moment is no leak.
    """
    before, _ = await _ledger(services)
    listing = services.backend.list(services.settings.agent_id)
    containers = await ask(services, listing, "list")
    world = await _world(services, containers)
    after, kernels = await _ledger(services)
    strangers = {key: thing for key, thing in world.items() if key not in before | after}
    found = [
        Leak(kind=kind, key=key, kernel_id=kernel, state=state, detail=detail)
        for (kind, key), (kernel, state, detail) in strangers.items()
    ]
    found.extend(_left_over(after.values(), kernels))
    found.extend(_missing(before, after, kernels, containers))
    found.extend(_unclaimed(before, after, world))
    return sorted(found, key=lambda leak: (leak.kind, leak.key))


async def _ledger(
    services: Services,
) -> tuple[dict[tuple[str, str], HoldRow], dict[str, KernelRow]]:
    holds, kernels = await services.ledger.read(lambda tx: (tx.holds(), tx.kernels()))
    return {(h.kind, h.key): h for h in holds}, {k.kernel_id: k for k in kernels}


async def _world(services: Services, containers: Sequence[ContainerStatus]) -> _Found:
    scratches = await services.scratch.call("list", lane="storage")
    prepared = await services.devices.prepared()
    run_dirs = await asyncio.to_thread(_run_dirs, services)
    world: _Found = {("scratch", s.kernel_id): (s.kernel_id, "present", s.path) for s in scratches}
    world.update({("run-dir", path): (None, "present", path) for path in run_dirs})
    for plugin, claim_ids in prepared.items():
        world.update({("device", i): (None, "prepared", f"by plugin {plugin}") for i in claim_ids})
    for claim in services.allocator.claims():
        world["claim", claim.id] = (claim.kernel_id, "allocated", f"of plugin {claim.plugin}")
    for port, holder in services.ports.held.items():
        world["port", str(port)] = (holder, "given", "by the pool of ports")
    for c in containers:
        kernel = c.record.get("kernel_id")
        state = c.state.value if c.state else c.presence.value
        world["container", c.name] = (kernel, state, "in the backend, not in the ledger")
    return world


def _run_dirs(services: Services) -> list[str]:
    root = services.settings.run_root
    return [str(path) for path in root.iterdir()] if root.is_dir() else []


def _left_over(holds: Iterable[HoldRow], kernels: Mapping[str, KernelRow]) -> Iterator[Leak]:
    """Holds of kernels that have ended: being tried again, and not free."""
    for hold in holds:
        kernel = kernels.get(hold.kernel_id)
        if kernel is None or kernel.ended_at is not None:
            yield _leak(hold, hold.note or "its kernel has ended")
        elif hold.state is HoldState.DIRTY:
            yield _leak(hold, hold.note)


def _missing(
    before: _Holds,
    after: _Holds,
    kernels: Mapping[str, KernelRow],
    containers: Sequence[ContainerStatus],
) -> Iterator[Leak]:
    """Containers that the ledger says are held by a running kernel, and that are not there."""
    seen = {c.name for c in containers if c.presence is not Presence.ABSENT}
    for key, hold in before.items():
        kernel = kernels.get(hold.kernel_id)
        settled = hold.state is HoldState.HELD and after.get(key) == hold
        if hold.kind != "container" or hold.key in seen or not settled or kernel is None:
            continue
        if kernel.state == KernelState.RUNNING:
            yield _leak(hold, "the ledger holds it, the backend does not have it")


def _unclaimed(before: _Holds, after: _Holds, world: _Found) -> Iterator[Leak]:
    """Claims and ports that the ledger has and their giver does not know: given twice, maybe."""
    for key, hold in before.items():
        if (giver := _GIVERS.get(hold.kind)) and key in after and key not in world:
            yield _leak(hold, f"the ledger holds it, {giver} does not know it")


def _leak(hold: HoldRow, detail: str) -> Leak:
    return Leak(
        kind=hold.kind, key=hold.key, kernel_id=hold.kernel_id, state=hold.state, detail=detail
    )
