"""The owners of this node's kernels: found by kernel and by container, begun and stopped here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from agent_core.contracts.backend import PublishedPort
from agent_core.contracts.errors import AgentError, WrongState
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal, begin
from agent_core.kernels.owner import Owner
from agent_core.kernels.runner.execution import Execution
from agent_core.kernels.runner.making import make_execution
from agent_core.kernels.services import Services
from agent_core.kernels.serving import serve_models
from agent_core.kernels.sessions import end_of_session
from agent_core.kernels.spec import Faults, read_spec
from agent_core.kernels.states import KernelState
from agent_core.kernels.steps import make_steps
from agent_core.kernels.telling import tell_allocations
from agent_core.ledger import KernelRow

log = structlog.get_logger(__name__)

_STOP_DEADLINE = 15.0
_CANCEL_DEADLINE = 8.0


class Owners:
    """Every kernel that has not ended has its owner here, and every owner its task."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._steps = make_steps(services)
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, Owner] = {}
        self._by_container: dict[str, Owner] = {}
        self._by_session: dict[str, dict[str, Owner]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # ---- looking ----

    def get(self, kernel_id: str) -> Owner | None:
        """Find the owner of a kernel that has not ended."""
        return self._owners.get(kernel_id)

    def of_container(self, name: str) -> Owner | None:
        """Find the owner of the kernel whose container has this name now."""
        return self._by_container.get(name)

    def __contains__(self, kernel_id: object) -> bool:
        """Whether a kernel has an owner, or is being begun."""
        return kernel_id in self._owners or kernel_id in self._starting

    def __iter__(self) -> Iterator[Owner]:
        return iter([*self._owners.values()])

    def of_session(self, session_id: str) -> list[Owner]:
        """List the owners of a session's kernels that have not ended."""
        return [*self._by_session.get(session_id, {}).values()]

    async def rows(self, kernel_ids: Sequence[str]) -> list[KernelRow | None]:
        """Find the rows of kernels by their whole ids, all at one moment."""
        while True:
            rows = [await self.row(kernel_id) for kernel_id in kernel_ids]
            unknown = [k for k, row in zip(kernel_ids, rows, strict=True) if row is None]
            if not any(k in self._starting or k in self._owners for k in unknown):
                return rows

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

    async def start(self, kernels: Sequence[tuple[KernelRow, Assembly]]) -> None:
        """Make kernels durable with their claims, all or none, and begin to build them.

        A caller who goes away does not stop it. Nothing may be awaited between the `rows` that
        found no such kernels and this call.

        Raises:
            LedgerFailed: when they cannot be recorded; their claims are free again.
        """
        task = asyncio.get_running_loop().create_task(self._start(kernels))
        self._starting |= {row.kernel_id: task for row, _ in kernels}
        await asyncio.shield(task)

    async def _start(self, kernels: Sequence[tuple[KernelRow, Assembly]]) -> None:
        ledger, bus = self._services.ledger, self._services.bus
        begun = [(Journal(ledger, bus, row), build) for row, build in kernels]
        try:
            await self._begin(begun)
            for journal, build in begun:
                self._own(journal, build)
                tell_allocations(self._services, build.spec.kernel_id, "granting")
        finally:
            for row, _ in kernels:
                del self._starting[row.kernel_id]

    async def _begin(self, begun: Sequence[tuple[Journal, Assembly]]) -> None:
        """Write the first rows, or free their holds once it is certain that none was written.

        While nobody can tell, they stay taken: unknown is never free.
        """
        first = self._steps[0]
        firsts = [(journal, first.holds(build)) for journal, build in begun]
        try:
            await begin(self._services.ledger, self._services.bus, firsts)
        except AgentError as exc:
            kernel_id = begun[0][0].row.kernel_id
            log.warning("a create may not be recorded", kernel_id=kernel_id, error=exc.message)
            # All rows are of one transaction.
            if await self._services.ledger.read(lambda tx: tx.kernel(kernel_id)) is not None:
                return
            for _, holds in firsts:
                for hold in holds:
                    first.freed(hold)
            raise

    async def apart(self, kernel_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something about what is left of a kernel that nobody owns; its create waits for that.

        A caller who goes away does not stop it.

        Raises:
            WrongState: when the kernel has an owner, or is being begun.
        """
        if kernel_id in self:
            raise WrongState(f"kernel {kernel_id} has an owner")
        task = asyncio.get_running_loop().create_task(self._apart(kernel_id, work))
        self._starting[kernel_id] = task
        await asyncio.shield(task)

    async def _apart(self, kernel_id: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            del self._starting[kernel_id]

    async def adopt(
        self,
        row: KernelRow,
        ending: Ending | None,
        run_dir: Path,
        ports: tuple[PublishedPort, ...] = (),
    ) -> None:
        """Take a kernel over that an earlier agent left; `ending` is posted at once."""
        spec = {**row.spec, "kernel_id": row.kernel_id, "session_id": row.session_id}
        build = Assembly(
            spec=read_spec(spec, Faults()),  # it was accepted once, and is not judged again
            incarnation=row.incarnation,
            container=row.container or "",
            run_dir=run_dir,
            ports=ports,
        )
        if ending is None and row.state == KernelState.RUNNING:
            build.runs = await self._resumed(build)
            serve_models(self._services, build)
        owner = self._own(Journal(self._services.ledger, self._services.bus, row), build)
        if row.ended_at is not None:
            self.ended(owner)
        if ending is not None:
            owner.post(ending)

    async def _resumed(self, build: Assembly) -> Execution | None:
        """Take up the kernel's runner again; where that fails the kernel runs on without it."""
        kernel_id = build.spec.kernel_id
        try:
            runs = make_execution(
                self._services.backend,
                kernel_id,
                build.incarnation,
                build.container,
                build.run_dir,
                build.ports,
            )
            await runs.resume()
        except (AgentError, OSError) as exc:
            log.warning("no code can be run in a kernel", kernel_id=kernel_id, error=str(exc))
            return None
        return runs

    def _own(self, journal: Journal, build: Assembly) -> Owner:
        owner = Owner(
            self._services,
            self._steps,
            journal,
            build,
            self,
        )
        kernel_id = owner.kernel_id
        self._by_session.setdefault(journal.row.session_id, {})[kernel_id] = owner
        self._owners[kernel_id] = self._by_container[journal.row.container or ""] = owner
        task = asyncio.get_running_loop().create_task(owner.run(), name=f"kernel {kernel_id}")
        self._tasks[kernel_id] = task
        task.add_done_callback(lambda done: self._done(kernel_id, done))
        return owner

    def renamed(self, owner: Owner, before: str) -> None:
        """Find the owner by its new container."""
        self._by_container.pop(before, None)
        self._by_container[owner.journal.row.container or ""] = owner

    def together(self, owner: Owner) -> Callable[[], Awaitable[None]]:
        """Return what waits until no other kernel of the session is being created any more."""

        async def wait() -> None:
            others = self.of_session(owner.journal.row.session_id)
            for other in others:
                while other is not owner and other.journal.state is KernelState.PREPARING:
                    await other.changed()

        return wait

    def ending(self, owner: Owner) -> None:
        """End the others of its session, where it was never whole or its batch is over."""
        row = owner.journal.row
        if not owner.build.spec.cluster.alone:
            self._end_session(row, self.of_session(row.session_id))

    async def end_sessions(self) -> None:
        """End what is left of sessions of which an earlier agent has seen a kernel end.

        An id may be used again, by kernels of other ids: whoever was made after an end is not of
        its session. A kernel that is ending still has an owner, who tells it again.
        """
        for session_id, owners in [*self._by_session.items()]:
            left = [o for o in owners.values() if not o.build.spec.cluster.alone]
            for row in await self._session(session_id) if left else ():
                ended = row.ended_at or 0.0
                self._end_session(row, [o for o in left if o.journal.row.created_at < ended])

    async def _session(self, session_id: str) -> Sequence[KernelRow]:
        return await self._services.ledger.read(lambda tx: tx.kernels_of(session_id))

    def _end_session(self, row: KernelRow, owners: Iterable[Owner]) -> None:
        ending = end_of_session(row)
        for owner in owners:
            if ending is not None and owner.kernel_id != row.kernel_id:
                owner.post(ending)

    def ended(self, owner: Owner) -> None:
        """Forget a kernel that has ended; its owner may still give something back."""
        row = owner.journal.row
        self._owners.pop(row.kernel_id, None)
        self._by_container.pop(row.container or "", None)
        session = self._by_session.get(row.session_id, {})
        session.pop(row.kernel_id, None)
        if not session:
            self._by_session.pop(row.session_id, None)

    def _done(self, kernel_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(kernel_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the owner of a kernel failed", kernel_id=kernel_id, exc_info=error)

    # ---- ending ----

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
        tasks = [*self._tasks.values(), *self._starting.values()]
        for task in tasks:
            task.cancel()
        await _settle(tasks, _CANCEL_DEADLINE)
        for owner in self:  # a task that was cancelled before it began has closed nothing
            await owner.disconnect()


async def _settle(tasks: Iterable[asyncio.Task[object]], seconds: float) -> None:
    if waiting := [*tasks]:
        await asyncio.wait(waiting, timeout=seconds)
