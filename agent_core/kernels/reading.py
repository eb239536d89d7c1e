"""Reading the backend's records after the ledger was lost, and writing what they say of kernels."""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

from agent_core import clock
from agent_core.contracts.errors import AgentError
from agent_core.kernels.asking import ask
from agent_core.kernels.rebuilding import Rebuild, plan_rebuild
from agent_core.kernels.services import Services
from agent_core.ledger import Commit, EventRow, Recovery, Transaction
from agent_core.wire.events import LEDGER_RECOVERED

log = structlog.get_logger(__name__)

RECOVERED: Final = Commit("ledger-recovered", "what a lost ledger lacked is rebuilt from records")

KNOWN: Final = "the kernels are not taken over yet"
"""Why the ledger is still reconciling once the records were read."""
_LOST: Final = "there was no ledger"
_NAMED: Final = 100
"""Kernels that the event names; it counts all."""


async def read_records(services: Services) -> bool:
    """Rebuild what is missing in the ledger; False when nobody can tell yet what is.

    Then `Ledger.reconciling` says why. Nothing was written.
    """
    ledger = services.ledger
    try:
        found = await ask(services, services.backend.list(services.settings.agent_id), "list")
        rows, holds = await ledger.read(lambda tx: (tx.kernels(), tx.holds()))
        rebuild = plan_rebuild(rows, holds, found)
        if rebuild.unknown:
            return _wait(services, "; ".join(rebuild.unknown))
        await _write(services, rebuild)
    except AgentError as exc:
        return _wait(services, exc.message)
    except Exception as exc:  # whatever a backend answers, an agent that starts can be asked why
        log.exception("the backend's records cannot be read")
        return _wait(services, f"{type(exc).__name__}: {exc}")
    return True


def _wait(services: Services, why: str) -> bool:
    if services.ledger.reconciling != why:
        log.warning("the ledger was lost, and it is not known what runs", because=why)
    services.ledger.reconciling = why
    return False


async def _write(services: Services, rebuild: Rebuild) -> None:
    ledger = services.ledger
    recovery = ledger.recovery
    if recovery is None and rebuild.rows:
        recovery = Recovery(time.time(), _LOST, "nothing")

    def work(tx: Transaction) -> EventRow | None:
        if not tx.is_reconciling():  # it was written, and nobody heard of it
            return None
        for row in rebuild.rows:
            tx.put_kernel(row)
        tx.drop_holds(rebuild.stale)
        tx.put_holds(rebuild.holds)
        tx.reconciled(recovery)
        if recovery is None:  # the first start of all: nothing was lost
            return None
        return tx.add_event(LEDGER_RECOVERED.name, clock.wall(), data=_told(recovery, rebuild))

    event = await ledger.write(RECOVERED, work)
    ledger.recovery, ledger.reconciling = recovery, KNOWN
    if event is not None:
        log.warning("the ledger is recovered", **event.data)
        services.bus.published([event])


def _told(recovery: Recovery, rebuild: Rebuild) -> dict[str, Any]:
    ids = [row.kernel_id for row in rebuild.rows]
    return {**recovery.to_data(), "rebuilt": len(ids), "kernels": ids[:_NAMED]}
