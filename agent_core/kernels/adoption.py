"""Going on where an earlier agent stopped: claims and ports restored, kernels adopted or ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from agent_core.contracts.errors import AgentError
from agent_core.kernels.assembly import run_dir
from agent_core.kernels.claims import claim_from_data
from agent_core.kernels.owners import Owners
from agent_core.kernels.published import KIND as PORT
from agent_core.kernels.published import fronts_of, ports_of
from agent_core.kernels.reading import KNOWN, read_records
from agent_core.kernels.reconcile import Known, plan
from agent_core.kernels.services import Services
from agent_core.kernels.sightings import Sightings, list_containers, look_for
from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, KernelRow

log = structlog.get_logger(__name__)

RUN_DIR = "run-dir"


async def adopt_all(services: Services, owners: Owners) -> list[str]:
    """Restore every claim and port, then take over every kernel that has not ended or still holds.

    After the ledger was lost the backend's records are read first. Where that cannot be done
    nothing is taken over: what an old backup says of a kernel is not what it does now.

    Returns:
        What could not be restored or taken over, in words; nothing of it is touched or free.
    """
    unread = services.ledger.reconciling not in ("", KNOWN)
    if unread and not await read_records(services):
        return []
    faults = await _adopt_known(services, owners)
    services.ledger.reconciling = ""
    return faults


async def adopt_later(services: Services, owners: Owners, faults: list[str]) -> None:
    """Try again for as long as the backend's records cannot be read; `faults` grows."""
    for pause in services.settings.pauses():
        if not services.ledger.reconciling:
            return
        await asyncio.sleep(pause)
        try:
            faults.extend(await adopt_all(services, owners))
        except AgentError as exc:
            log.warning("kernels cannot be taken over yet", error=exc.message)


async def _adopt_known(services: Services, owners: Owners) -> list[str]:
    rows, holds = await services.ledger.read(lambda tx: (tx.kernels(), tx.holds()))
    faults = [fault for hold in holds for fault in _restore(services, hold)]
    holding = {hold.kernel_id for hold in holds}
    left = [row for row in rows if row.ended_at is None or row.kernel_id in holding]
    running = [row for row in left if row.state == KernelState.RUNNING]
    listing = await list_containers(services) if running else None
    seen = await look_for(services, running, listing)
    held: dict[str, list[HoldRow]] = {}
    for hold in holds:
        held.setdefault(hold.kernel_id, []).append(hold)
    if left:
        log.info("kernels found", kernels=len(left), running=len(running))
    for row in left:
        faults.extend(await _adopt(services, owners, row, seen, held.get(row.kernel_id, ())))
    await owners.end_sessions()
    return faults


def _restore(services: Services, hold: HoldRow) -> Iterable[str]:
    """Take what is held in memory too, whatever the state of its row: dirty is not free."""
    if hold.kind == "claim":
        return _restore_claim(services, hold)
    return _restore_port(services, hold) if hold.kind == PORT else ()


def _restore_port(services: Services, hold: HoldRow) -> Iterable[str]:
    try:
        services.ports.restore(hold.kernel_id, int(hold.key))
    except ValueError:
        log.exception("a port cannot be restored", port=hold.key)
        return [f"port {hold.key} cannot be restored: it may be given to another"]
    return []


def _restore_claim(services: Services, hold: HoldRow) -> Iterable[str]:
    try:
        # The kernel runs all the same, and what it has must not be given to another.
        overdrawn = services.allocator.restore(claim_from_data(hold.undo))
    except Exception:  # one row that cannot be read must not keep the agent from starting
        log.exception("a claim cannot be restored", claim=hold.key)
        return [f"claim {hold.key} cannot be restored: what it holds may be given to another"]
    if overdrawn:
        log.warning("a restored claim does not fit any more", claim=hold.key, because=overdrawn)
    return []


async def _adopt(
    services: Services,
    owners: Owners,
    row: KernelRow,
    seen: Sightings,
    holds: Sequence[HoldRow],
) -> Iterable[str]:
    kernel_id = row.kernel_id
    try:
        [action] = plan([Known(row)], seen, rebooted=services.ledger.boot_changed)
        # A node may have thousands that simply go on: they are counted, not listed.
        tell = log.debug if action.ending is None else log.info
        tell(
            "kernel found",
            kernel_id=kernel_id,
            verdict=action.verdict.value,
            because=action.because,
        )
        # The runner was started with the directory of that time.
        directory = next((Path(hold.key) for hold in holds if hold.kind == RUN_DIR), None)
        directory = directory or run_dir(services.settings.run_root, kernel_id)
        await owners.adopt(row, action.ending, directory, tuple(ports_of(holds)))
        if action.ending is None:
            return await _publish(services, row, holds)
    except Exception as exc:  # one bad kernel must not keep the agent from starting
        log.exception("a kernel cannot be taken over", kernel_id=kernel_id)
        return [f"kernel {kernel_id} cannot be taken over: {type(exc).__name__}: {exc}"]
    return []


async def _publish(services: Services, row: KernelRow, holds: Sequence[HoldRow]) -> list[str]:
    """Listen again in front of a kernel's ports; one that cannot be had is told, and held."""
    fronts, faults = [*fronts_of(holds)], []
    for front in fronts:
        try:
            await services.tls.listen(front)
        except (AgentError, OSError) as exc:
            why = f"port {front.port} of kernel {row.kernel_id} is not served: {exc}"
            log.warning(why)
            faults.append(why)
    if services.ports_file is not None:
        ports = [*ports_of(holds)]
        services.ports_file.publish(row.kernel_id, row.session_id, ports, fronts)
    return faults
