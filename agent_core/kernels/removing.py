"""Giving back what nobody holds: by the step of its kind, and never while its kernel is begun."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from agent_core.contracts.device import Claim
from agent_core.contracts.errors import AgentError, InternalError, WrongState
from agent_core.kernels.asking import ask
from agent_core.kernels.claims import claim_to_data
from agent_core.kernels.owners import Owners
from agent_core.kernels.services import Services
from agent_core.kernels.steps import make_steps
from agent_core.kernels.strangers import CONTAINER, DEVICE, Thing
from agent_core.kernels.survey import LOG, RUN_DIR, WORKER, recorded_of
from agent_core.ledger import HoldRow, Transaction

log = structlog.get_logger(__name__)


class Removing:
    """Gives strangers back, one at a time."""

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners
        self._steps = {step.kind: step for step in make_steps(services) if step.kind}
        self._ways: dict[str, Callable[[Thing], Awaitable[None]]] = {
            CONTAINER: self._container,
            RUN_DIR: self._run_dir,
            LOG: self._log,
            WORKER: self._worker,
        }

    async def remove(self, thing: Thing) -> str | None:
        """Give one thing back; return None, or why it could not be.

        The ledger is asked once more at the last moment, and a create of the same kernel waits.
        """
        try:
            await self._owners.apart(thing.kernel_id or thing.key, lambda: self._remove(thing))
        except AgentError as exc:
            why = exc.message
        except TimeoutError:
            why = "it passed its deadline"
        except Exception as exc:  # one stranger's defect must not keep the others
            log.exception("a stranger could not be removed", kind=thing.kind, key=thing.key)
            why = f"{type(exc).__name__}: {exc}"
        else:
            log.warning("a stranger was removed", kind=thing.kind, key=thing.key)
            return None
        log.warning("a stranger stays", kind=thing.kind, key=thing.key, because=why)
        return why

    async def _remove(self, thing: Thing) -> None:
        recorded = await recorded_of(self._services, [thing])
        if thing.name in recorded.held or thing.kernel_id in recorded.living:
            raise WrongState(f"{thing.kind} {thing.key} is held meanwhile")
        await self._ways.get(thing.kind, self._by_step)(thing)

    async def _by_step(self, thing: Thing) -> None:
        step = self._steps.get(thing.kind)
        if step is None:
            raise InternalError(f"nothing knows how to give back a {thing.kind!r}")
        undo = _claim_data(thing) if thing.kind == DEVICE else {}
        hold = HoldRow(thing.kind, thing.key, thing.kernel_id or "", undo=undo)
        await step.give_back(hold)
        step.freed(hold)

    async def _container(self, thing: Thing) -> None:
        """Ask it to end before it is removed, as every kernel's container is."""
        grace = self._services.settings.stop_grace
        stopping = self._services.backend.stop(thing.key, grace)
        await ask(self._services, stopping, "stop", extra=grace)
        await self._by_step(thing)

    async def _log(self, thing: Thing) -> None:
        await self._services.logs.forget([thing.key])

    async def _worker(self, thing: Thing) -> None:
        async with asyncio.timeout(self._services.settings.call_timeout):
            await asyncio.to_thread(self._services.stray_workers.end, thing.key)

    async def _run_dir(self, thing: Thing) -> None:
        path = Path(thing.key)
        if path.parent != self._services.settings.run_root:
            raise InternalError(f"{path} is not in this agent's run directory")
        aside = path.with_name(f"{path.name}.gone")
        # Which kernel made it is not always known, so that no create can be kept waiting. But in
        # the ledger's own thread no hold of it is written between the look and the move.
        if not await self._services.ledger.read(lambda tx: _moved(tx, path, aside)):
            raise WrongState(f"{path} is held meanwhile")
        async with asyncio.timeout(self._services.settings.call_timeout):
            await asyncio.to_thread(_removed, aside)


def _moved(tx: Transaction, path: Path, aside: Path) -> bool:
    if tx.holders(RUN_DIR, str(path)):
        return False
    if os.path.lexists(path):
        path.rename(aside)
    return True


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _claim_data(thing: Thing) -> dict[str, object]:
    """Render a claim of which only the id is known; its grants are not needed to undo it."""
    kernel_id = thing.kernel_id or ""
    incarnation, _, plugin = thing.key.removeprefix(f"{kernel_id}.").partition(".")
    return claim_to_data(Claim(thing.key, kernel_id, int(incarnation), plugin, ()))
