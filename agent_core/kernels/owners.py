"""The owners of this node's kernels: found by kernel and by container, begun and stopped here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from agent_core.contracts.errors import AgentError
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal
from agent_core.kernels.owner import Owner
from agent_core.kernels.runner.runs import Runs
from agent_core.kernels.services import Services
from agent_core.kernels.spec import Faults, read_spec
from agent_core.kernels.states import KernelState
from agent_core.kernels.steps import make_steps
from agent_core.ledger import KernelRow

log = structlog.get_logger(__name__)

_STOP_DEADLINE = 15.0
_CANCEL_DEADLINE = 8.0


class Owners:
    """Every kernel that has not ended has its owner here, and every owner its task."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._steps = make_steps(services)
        self._starting: dict[str, asyncio.Task[Owner]] = {}
        self._owners: dict[str, Owner] = {}
        self._by_container: dict[str, Owner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # ---- looking ----

    def get(self, kernel_id: str) -> Owner | None:
        """Find the owner of a kernel that has not ended."""
        return self._owners.get(kernel_id)

    def __iter__(self) -> Iterator[Owner]:
        return iter([*self._owners.values()])

    async def row(self, kernel_id: str) -> KernelRow | None:
        """Find a kernel's row by its whole id; one that is being begun is waited for."""
        while True:
            if (starting := self._starting.get(kernel_id)) is not None:
                await asyncio.wait({starting})
            elif (owner := self._owners.get(kernel_id)) is not None:
                return owner.journal.row
            else:
                row = await self._services.ledger.read(lambda tx: tx.kernel(kernel_id))
                if kernel_id not in self._starting and kernel_id not in self._owners:
                    return row

    # ---- beginning ----

    async def start(self, row: KernelRow, build: Assembly) -> Owner:
        """Make a kernel durable with its claims and begin to build it.

        A caller who goes away does not stop it. Nothing may be awaited between the `row` that
        found no such kernel and this call.

        Raises:
            LedgerFailed: when it cannot be recorded; its claims are free again.
        """
        task = asyncio.get_running_loop().create_task(self._start(row, build))
        self._starting[row.kernel_id] = task
        return await asyncio.shield(task)

    async def _start(self, row: KernelRow, build: Assembly) -> Owner:
        journal = Journal(self._services.ledger, self._services.bus, row)
        try:
            await self._begin(journal, build)
            return self._own(journal, build)
        finally:
            del self._starting[row.kernel_id]

    async def _begin(self, journal: Journal, build: Assembly) -> None:
        """Write the first row, or free its holds once it is certain that none was written.

        While nobody can tell, they stay taken: unknown is never free.
        """
        first = self._steps[0]
        holds = first.holds(build)
        try:
            await journal.begin(holds)
        except AgentError as exc:
            kernel_id = journal.row.kernel_id
            log.warning("a create may not be recorded", kernel_id=kernel_id, error=exc.message)
            if await self._services.ledger.read(lambda tx: tx.kernel(kernel_id)) is not None:
                return
            for hold in holds:
                first.freed(hold)
            raise

    async def adopt(self, row: KernelRow, ending: Ending | None, run_dir: Path) -> None:
        """Take a kernel over that an earlier agent left; `ending` is posted at once."""
        spec = {**row.spec, "kernel_id": row.kernel_id, "session_id": row.session_id}
        build = Assembly(
            spec=read_spec(spec, Faults()),  # it was accepted once, and is not judged again
            incarnation=row.incarnation,
            container=row.container or "",
            run_dir=run_dir,
        )
        if ending is None and row.state == KernelState.RUNNING:
            build.runs = await _link(row, run_dir)
        owner = self._own(Journal(self._services.ledger, self._services.bus, row), build)
        if row.ended_at is not None:
            self._forget(owner)
        if ending is not None:
            owner.post(ending)

    def _own(self, journal: Journal, build: Assembly) -> Owner:
        owner = Owner(
            self._services,
            self._steps,
            journal,
            build,
            renamed=self._rename,
            ended=self._forget,
        )
        kernel_id = owner.kernel_id
        self._owners[kernel_id] = self._by_container[journal.row.container or ""] = owner
        task = asyncio.get_running_loop().create_task(owner.run(), name=f"kernel {kernel_id}")
        self._tasks[kernel_id] = task
        task.add_done_callback(lambda done: self._done(kernel_id, done))
        return owner

    def _rename(self, owner: Owner, before: str) -> None:
        self._by_container.pop(before, None)
        self._by_container[owner.journal.row.container or ""] = owner

    def _forget(self, owner: Owner) -> None:
        self._owners.pop(owner.kernel_id, None)
        self._by_container.pop(owner.journal.row.container or "", None)

    def _done(self, kernel_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(kernel_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the owner of a kernel failed", kernel_id=kernel_id, exc_info=error)

    # ---- ending ----

    def exited(self, container: str, ending: Ending) -> None:
        """Tell the owner that its container has ended."""
        owner = self._by_container.get(container)
        if owner is not None:
            owner.post(ending)

    def detach(self) -> None:
        """Leave the code that runs as it is when its callers go; call it before the RPC stops."""
        for owner in self:
            if owner.build.runs is not None:
                owner.build.runs.detach()

    async def stop(self) -> None:
        """Undo creates that are under way, and leave everything that runs alone."""
        await _settle(self._starting.values(), _STOP_DEADLINE)
        building = [owner for owner in self if owner.building]
        for owner in building:
            owner.interrupt("the agent was stopped")
        undoing = [self._tasks[o.kernel_id] for o in building if o.kernel_id in self._tasks]
        await _settle(undoing, _STOP_DEADLINE)
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await _settle(tasks, _CANCEL_DEADLINE)
        for owner in self:  # a task that was cancelled before it began has closed nothing
            await owner.disconnect()


async def _link(row: KernelRow, run_dir: Path) -> Runs | None:
    """Listen for the kernel's runner again; where that fails the kernel runs on without it."""
    runs = Runs(row.kernel_id, row.incarnation, run_dir)
    try:
        await asyncio.to_thread(run_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
        await runs.link.open()
    except (AgentError, OSError) as exc:
        log.warning("no code can be run in a kernel", kernel_id=row.kernel_id, error=str(exc))
        return None
    return runs


async def _settle(tasks: Iterable[asyncio.Task[object]], seconds: float) -> None:
    if waiting := [*tasks]:
        await asyncio.wait(waiting, timeout=seconds)
