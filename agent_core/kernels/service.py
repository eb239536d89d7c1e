"""The kernels of this node, as the RPC sees them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog

from agent_core import clock
from agent_core.contracts.errors import (
    AmbiguousId,
    Conflict,
    CreateInterrupted,
    ImageNotFound,
    NotFound,
    WrongState,
)
from agent_core.contracts.info import Support
from agent_core.kernels.assembly import Assembly, container_name, run_dir
from agent_core.kernels.intents import Ending
from agent_core.kernels.journal import Journal
from agent_core.kernels.owner import Owner
from agent_core.kernels.runner.runs import Runs
from agent_core.kernels.services import Services
from agent_core.kernels.spec import Faults, KernelSpec, read_spec
from agent_core.kernels.states import KernelState, Reason
from agent_core.kernels.steps import make_steps
from agent_core.kernels.views import detail_of, row_of
from agent_core.ledger import KernelRow
from agent_core.resources.slots import parse_request
from agent_core.wire import models as m

log = structlog.get_logger(__name__)

_STOP_DEADLINE = 15.0


class KernelService:
    """Accepts creates and destroys, finds kernels, and owns their owners."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._steps = make_steps(services)
        self._owners: dict[str, Owner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._creating: set[str] = set()

    # ---- create ----

    async def create(self, spec: Mapping[str, Any]) -> m.Created:
        """Accept a create; answers once PREPARING is durable. Idempotent by kernel id.

        Raises:
            InvalidSpec: when the specification has faults, all of them named.
            ResourceRefused: when the slots cannot be granted exactly.
            Conflict: when the id was used with another specification.
            CreateInterrupted: when this very create was undone after a crash.
            WrongState: when the kernel of this id has ended.
        """
        faults = Faults()
        wanted = read_spec(spec, faults)
        request, slot_faults = parse_request(wanted.slots, self._services.allocator.catalogue)
        faults.extend(list(slot_faults))
        await self._check_image(wanted, faults)
        faults.raise_if_any()
        known = await self._known(wanted)
        if known is not None:
            return known
        self._creating.add(wanted.kernel_id)
        try:
            return await self._begin(wanted, request)
        finally:
            self._creating.discard(wanted.kernel_id)

    async def _check_image(self, wanted: KernelSpec, faults: Faults) -> None:
        """A backend that cannot pull knows at once that an image is missing."""
        backend = self._services.backend
        if not wanted.image or backend.info.supports("images.pull") is not Support.NO:
            return
        try:
            async with asyncio.timeout(self._services.settings.call_timeout):
                await backend.inspect_image(wanted.image)
        except ImageNotFound as exc:
            faults.extend([exc])

    async def _known(self, wanted: KernelSpec) -> m.Created | None:
        """Answer a repeated create from the ledger."""
        row = await self._row(wanted.kernel_id)
        if row is None and wanted.kernel_id in self._creating:
            raise Conflict(f"kernel {wanted.kernel_id} is being created by another call")
        if row is None:
            return None
        if row.spec_digest != wanted.digest:
            raise Conflict(
                f"kernel {wanted.kernel_id} exists with another specification",
                hint="Use a new kernel id, or repeat the first specification exactly.",
            )
        if row.reason == Reason.CREATE_INTERRUPTED:
            raise CreateInterrupted(f"the create of kernel {wanted.kernel_id} was interrupted")
        if row.ended_at is not None:
            raise WrongState(
                f"kernel {wanted.kernel_id} has ended: {row.reason}", hint="Use a new kernel id."
            )
        return m.Created(kernel_id=row.kernel_id, session_id=row.session_id, state=row.state)

    async def _begin(self, wanted: KernelSpec, request: Mapping[str, Any]) -> m.Created:
        allocator = self._services.allocator
        decision = allocator.reserve(wanted.kernel_id, 1, request)
        row = KernelRow(
            kernel_id=wanted.kernel_id,
            session_id=wanted.session_id,
            state=KernelState.PREPARING.value,
            spec=wanted.to_data(),
            spec_digest=wanted.digest,
            created_at=clock.wall(),
            container=container_name(self._services.settings.agent_id, wanted.kernel_id, 1),
        )
        build = self._assembly(row, wanted)
        build.claims = decision.claims
        journal = Journal(self._services.ledger, self._services.bus, row)
        try:
            await journal.begin(self._steps[0].holds(build))
        except BaseException:
            await self._unreserve(decision.claims, wanted.kernel_id)
            raise
        self._own(journal, build)
        return m.Created(kernel_id=row.kernel_id, session_id=row.session_id, state=row.state)

    async def _unreserve(self, claims: Sequence[Any], kernel_id: str) -> None:
        """Free what was reserved, unless the row became durable after all."""
        if await self._row(kernel_id) is None:
            for claim in claims:
                self._services.allocator.release(claim.id)

    def _assembly(self, row: KernelRow, spec: KernelSpec) -> Assembly:
        return Assembly(
            spec=spec,
            incarnation=row.incarnation,
            container=row.container or "",
            run_dir=run_dir(self._services.settings.run_root, row.kernel_id),
        )

    # ---- owners ----

    def _own(self, journal: Journal, build: Assembly) -> Owner:
        owner = Owner(self._services, self._steps, journal, build, self._forget)
        self._owners[owner.kernel_id] = owner
        task = asyncio.get_running_loop().create_task(owner.run(), name=f"kernel {owner.kernel_id}")
        self._tasks[owner.kernel_id] = task
        task.add_done_callback(lambda done: self._done(owner.kernel_id, done))
        return owner

    def _forget(self, owner: Owner) -> None:
        self._owners.pop(owner.kernel_id, None)

    def _done(self, kernel_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(kernel_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the owner of a kernel failed", kernel_id=kernel_id, exc_info=error)

    async def adopt(self, row: KernelRow, ending: Ending | None) -> None:
        """Take a kernel over that an earlier agent left; `ending` is posted at once."""
        spec = KernelSpec(**row.spec)
        build = self._assembly(row, spec)
        journal = Journal(self._services.ledger, self._services.bus, row)
        if ending is None and row.state == KernelState.RUNNING:
            build.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            build.runs = Runs(row.kernel_id, row.incarnation, build.run_dir)
            await build.runs.link.open()
        owner = self._own(journal, build)
        if row.ended_at is not None:
            self._forget(owner)
        if ending is not None:
            owner.post(ending)

    async def stop(self) -> None:
        """Undo creates that are under way, and leave everything that runs alone."""
        building = [
            owner for owner in self._owners.values() if owner.journal.state is KernelState.PREPARING
        ]
        for owner in building:
            owner.post(Ending(Reason.CREATE_INTERRUPTED, "the agent was stopped"))
        undoing = [self._tasks[o.kernel_id] for o in building if o.kernel_id in self._tasks]
        if undoing:
            await asyncio.wait(undoing, timeout=_STOP_DEADLINE)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def exited(self, container: str, ending: Ending) -> None:
        """Tell the owner that its container has ended."""
        for owner in self._owners.values():
            if owner.build.container == container:
                owner.post(ending)
                return

    # ---- everything else ----

    async def destroy(self, kernel_id: str, reason: str) -> m.KernelRow:
        """Accept a destroy; a kernel that has ended is a success."""
        row = await self.find(kernel_id)
        owner = self._owners.get(row.kernel_id)
        if owner is None:
            return row_of(row)
        owner.post(Ending(reason))
        while owner.journal.state in (KernelState.PREPARING, KernelState.RUNNING):
            await owner.changed()
        return row_of(owner.journal.row)

    def counts(self) -> dict[str, int]:
        """Count the kernels that have not ended, by state."""
        return dict(Counter(owner.journal.row.state for owner in self._owners.values()))

    async def list(self, *, include_ended: bool) -> Sequence[m.KernelRow]:
        """List kernels, oldest first."""
        if include_ended:
            rows = await self._services.ledger.read(lambda tx: tx.kernels())
        else:
            live = [owner.journal.row for owner in self._owners.values()]
            rows = sorted(live, key=lambda row: (row.created_at, row.kernel_id))
        return [row_of(row) for row in rows]

    async def show(self, kernel_id: str) -> m.KernelDetail:
        """Show one kernel with claims, holds, timings and present use."""
        row = await self.find(kernel_id)
        holds = await self._services.ledger.read(lambda tx: tx.holds(row.kernel_id))
        return await detail_of(self._services, row, holds, self._owners.get(row.kernel_id))

    async def wait(self, kernel_id: str, states: Sequence[str]) -> m.KernelRow:
        """Return once the kernel is in one of the states, or TERMINATED."""
        row = await self.find(kernel_id)
        owner = self._owners.get(row.kernel_id)
        while owner is not None:
            row = owner.journal.row
            if row.state in states or row.state == KernelState.TERMINATED:
                break
            await owner.changed()
        return row_of(row)

    async def logs(self, kernel_id: str, *, follow: bool) -> AsyncIterator[m.LogItem]:
        """Yield the kernel's log; of an ended one, the tail that was kept."""
        row = await self.find(kernel_id)
        if row.ended_at is not None:
            chunks = self._services.logs.read(row.kernel_id)
        else:
            chunks = self._services.backend.logs(row.container or "", follow=follow)
        async for data in chunks:
            yield m.LogItem(data=data)

    async def events(
        self, kernel_id: str | None, *, since: str | None, follow: bool, progress: bool
    ) -> AsyncIterator[m.EventItem]:
        """Yield retained events, and with `follow` those that happen."""
        whole = (await self.find(kernel_id)).kernel_id if kernel_id else None
        bus = self._services.bus
        async for item in bus.watch(whole, since=since, follow=follow, progress=progress):
            yield item

    async def runs(self, kernel_id: str) -> Runs:
        """Find the runs of a running kernel.

        Raises:
            WrongState: when it does not run.
        """
        row = await self.find(kernel_id)
        owner = self._owners.get(row.kernel_id)
        if owner is None or owner.build.runs is None or row.state != KernelState.RUNNING:
            raise WrongState(
                f"kernel {row.kernel_id} is {row.state}, and code runs only in RUNNING",
                hint=f"`agentctl kernels show {row.kernel_id}` says why.",
            )
        return owner.build.runs

    async def find(self, kernel_id: str) -> KernelRow:
        """Find a kernel by its id or a unique prefix of it.

        Raises:
            NotFound: when there is none.
            AmbiguousId: when there are several.
        """
        row = await self._row(kernel_id)
        if row is not None:
            return row
        matches = await self._services.ledger.read(lambda tx: tx.kernel_ids(kernel_id))
        if len(matches) > 1:
            raise AmbiguousId(
                f"{kernel_id!r} begins the ids of several kernels: {', '.join(matches)}",
                details={"matches": matches},
            )
        found = await self._row(matches[0]) if matches else None
        if found is None:
            raise NotFound(
                f"there is no kernel {kernel_id!r}", hint="`agentctl kernels list --all` shows all."
            )
        return found

    async def _row(self, kernel_id: str) -> KernelRow | None:
        owner = self._owners.get(kernel_id)
        if owner is not None:
            return owner.journal.row
        return await self._services.ledger.read(lambda tx: tx.kernel(kernel_id))
