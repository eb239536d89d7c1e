"""What exists in the world and could be held, and what the ledger knows of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from agent_core.contracts.backend import ContainerStatus, Presence
from agent_core.contracts.device import Claim
from agent_core.contracts.scratch import Scratch
from agent_core.host.stray_workers import StrayWorker
from agent_core.kernels import published
from agent_core.kernels.assembly import kernel_of_claim, kernel_of_container, run_dir
from agent_core.kernels.services import Services
from agent_core.kernels.sightings import Listing
from agent_core.kernels.strangers import CLAIM, CONTAINER, DEVICE, Key, Recorded, Thing
from agent_core.ledger import Transaction

SCRATCH, RUN_DIR, LOG, WORKER = "scratch", "run-dir", "log", "worker"
PORT: Final = published.KIND

_UNHELD: Final = (LOG, WORKER)
"""Kinds of things that are never held."""

_SLICE: Final = 500
"""Things that the ledger is asked about at once; others write in between."""


async def survey(services: Services, listing: Listing) -> list[Thing]:
    """Look at everything that a kernel of this agent could hold.

    A device plugin that does not answer is left out: nothing is concluded of what was not seen.

    Raises:
        AgentError: when scratches cannot be listed.
    """
    scratches, prepared, run_dirs, logs, workers = await asyncio.gather(
        services.scratch.call("list", lane="storage"),
        services.devices.prepared(),
        asyncio.to_thread(_run_dirs, services.settings.run_root),
        services.logs.kernel_ids(),
        asyncio.to_thread(services.stray_workers.find),
    )
    agent_id, claims = services.settings.agent_id, services.allocator.claims()
    ports = dict(services.ports.held)

    def things() -> list[Thing]:
        containers = [_container(agent_id, status) for status in listing.containers.values()]
        users = {run_dir(Path(), c.kernel_id).name: c.kernel_id for c in containers if c.kernel_id}
        return [
            *containers,
            *(_scratch(scratch) for scratch in scratches),
            *(_run_dir(agent_id, path, users.get(path.name)) for path in run_dirs),
            *(_device(plugin, claim) for plugin, ids in prepared.items() for claim in ids),
            *(_claim(agent_id, claim, known=claim.plugin in prepared) for claim in claims),
            *(_port(agent_id, port, holder) for port, holder in ports.items()),
            *(_worker(agent_id, worker) for worker in workers),
            *(_log(agent_id, kernel_id) for kernel_id in logs),
        ]

    # Of thousands of kernels these are many, and the loop has others to serve meanwhile.
    return await asyncio.to_thread(things)


def _container(agent_id: str, status: ContainerStatus) -> Thing:
    told = status.record.get("kernel_id")
    kernel_id = told if isinstance(told, str) else kernel_of_container(agent_id, status.name)
    state = status.state.value if status.state else status.presence.value
    detail = status.reason or "in the backend, not in the ledger"
    owner = status.owner or None
    return Thing(CONTAINER, status.name, kernel_id, owner, status.presence, state, detail)


def _scratch(scratch: Scratch) -> Thing:
    return Thing(SCRATCH, scratch.kernel_id, scratch.kernel_id, scratch.owner, detail=scratch.path)


def _run_dirs(root: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [*root.iterdir()]
    return []


def _run_dir(agent_id: str, path: Path, kernel_id: str | None) -> Thing:
    return Thing(RUN_DIR, str(path), kernel_id, agent_id, detail=str(path))


def _worker(agent_id: str, worker: StrayWorker) -> Thing:
    detail = f"of plugin {worker.plugin}"
    return Thing(WORKER, worker.key, None, agent_id, state="running", detail=detail)


def _device(plugin: str, claim_id: str) -> Thing:
    kernel_id = kernel_of_claim(claim_id, plugin)
    return Thing(DEVICE, claim_id, kernel_id, state="prepared", detail=f"by plugin {plugin}")


def _claim(agent_id: str, claim: Claim, *, known: bool) -> Thing:
    # While its plugin does not say what is prepared, nobody can tell what else the claim holds.
    presence = Presence.PRESENT if known else Presence.UNKNOWN
    detail = f"of plugin {claim.plugin}"
    return Thing(CLAIM, claim.id, claim.kernel_id, agent_id, presence, "allocated", detail)


def _port(agent_id: str, port: int, kernel_id: str) -> Thing:
    detail = "by the pool of ports"
    return Thing(PORT, str(port), kernel_id, agent_id, state="given", detail=detail)


def _log(agent_id: str, kernel_id: str) -> Thing:
    return Thing(LOG, kernel_id, kernel_id, agent_id, state="kept", detail="of an ended kernel")


# ---- what the ledger says of it -----------------------------------------------------------------


async def recorded_of(services: Services, things: Sequence[Thing]) -> Recorded:
    """Look up what the ledger knows of some things, and of nothing else."""
    held: list[Key] = []
    ended: dict[str, bool] = {}
    for start in range(0, len(things), _SLICE):
        some = things[start : start + _SLICE]
        more, kernels = await services.ledger.read(partial(_look_up, things=some))
        held += more
        ended |= kernels
    return recorded(held, ended)


def _look_up(tx: Transaction, things: Sequence[Thing]) -> tuple[list[Key], dict[str, bool]]:
    held = [t.name for t in things if t.kind not in _UNHELD and tx.holders(t.kind, t.key)]
    return held, tx.have_ended({t.kernel_id for t in things if t.kernel_id is not None})


def recorded(held: Iterable[Key], ended: Mapping[str, bool]) -> Recorded:
    """Put together what is held and which kernels have ended; a kernel's row holds its log."""
    logs = {(LOG, kernel_id) for kernel_id in ended}
    living = frozenset(kernel_id for kernel_id, is_over in ended.items() if not is_over)
    return Recorded(frozenset({*held, *logs}), living, frozenset(ended) - living)
