"""The kernels of this node, as the RPC sees them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agent_core.contracts.errors import (
    AmbiguousId,
    NotFound,
    Reconciling,
    RunnerUnavailable,
    WrongState,
)
from agent_core.kernels.asking import items
from agent_core.kernels.creating import Creating
from agent_core.kernels.explaining import explanation_of
from agent_core.kernels.intents import Ending
from agent_core.kernels.owner import Owner
from agent_core.kernels.owners import Owners
from agent_core.kernels.published import KIND as PORT
from agent_core.kernels.runner.execution import Execution
from agent_core.kernels.services import Services
from agent_core.kernels.sessions import new_id, no_session, session_rows
from agent_core.kernels.states import KernelState
from agent_core.kernels.views import all_ports, detail_of, row_of
from agent_core.ledger import KernelRow
from agent_core.wire import decisions as d
from agent_core.wire import models as m


class KernelService:
    """Accepts creates and destroys, finds kernels, and waits for them."""

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners
        self._creating = Creating(services, owners)

    async def create(self, spec: Mapping[str, Any]) -> m.Created:
        """Accept a create; see `Creating.create`."""
        return await self._creating.create(spec)

    async def plan(self, spec: Mapping[str, Any]) -> d.Plan:
        """Decide what a create would get now; see `Creating.plan`."""
        return await self._creating.plan(spec)

    async def explain(self, kernel_id: str) -> d.Explanation:
        """Explain why a kernel has what it has, from what its claims were decided by."""
        row = await self.find(kernel_id)
        holds = await self._services.ledger.read(lambda tx: tx.holds(row.kernel_id))
        return explanation_of(row, holds, self._services.allocator.quarantined())

    async def destroy(self, kernel_id: str, reason: str) -> m.KernelRow:
        """Accept a destroy; a kernel that has ended is a success."""
        row = await self.find(kernel_id)
        owner = self._owner(row)
        if owner is None:
            return row_of(row)
        owner.post(Ending(reason))
        while owner.journal.state not in (KernelState.TERMINATING, KernelState.TERMINATED):
            await owner.changed()
        return row_of(owner.journal.row)

    async def restart(self, kernel_id: str, incarnation: int | None) -> m.KernelRow:
        """Accept a restart; one that has been accepted already is a success.

        Args:
            kernel_id: The kernel.
            incarnation: The one to replace; by default the present one.

        Raises:
            WrongState: when the kernel is being created, is ending or has ended.
        """
        row = await self.find(kernel_id)
        owner = self._owner(row)
        done = incarnation is not None and row.incarnation > incarnation
        if done or row.state == KernelState.RESTARTING:
            return row_of(row)
        if owner is None or row.state != KernelState.RUNNING:
            raise WrongState(
                f"kernel {row.kernel_id} is {row.state}, and only one that runs can be restarted",
                hint=f"`agentctl kernels show {row.kernel_id}` says why.",
            )
        await owner.restart()
        return row_of(owner.journal.row)

    async def create_session(
        self, session_id: str | None, specs: Sequence[Mapping[str, Any]]
    ) -> m.SessionCreated:
        """Accept all kernels of a session, or none; see `Creating.create_together`."""
        chosen = session_id or new_id()
        created = await self._creating.create_together(chosen, specs)
        return m.SessionCreated(session_id=chosen, kernels=tuple(created))

    async def list_sessions(self, *, include_ended: bool) -> Sequence[m.SessionRow]:
        """List sessions with their kernels, oldest first."""
        return session_rows(await self._rows(include_ended=include_ended))

    async def destroy_session(self, session_id: str, reason: str) -> Sequence[m.KernelRow]:
        """Accept the destroy of all kernels of a session; one that has ended is a success.

        Raises:
            NotFound: when there never was such a session.
            Reconciling: when it is not known yet whether there is.
        """
        rows = await self._services.ledger.read(lambda tx: tx.kernels_of(session_id))
        if not rows:
            self._refuse_to_guess(f"there is session {session_id!r}")
            raise no_session(session_id)
        return await asyncio.gather(*(self.destroy(row.kernel_id, reason) for row in rows))

    def counts(self) -> dict[str, int]:
        """Count the kernels that have not ended, by state."""
        return dict(Counter(owner.journal.row.state for owner in self._owners))

    async def list(self, *, include_ended: bool) -> Sequence[m.KernelRow]:
        """List kernels, oldest first."""
        return [row_of(row) for row in await self._rows(include_ended=include_ended)]

    async def _rows(self, *, include_ended: bool) -> Sequence[KernelRow]:
        if include_ended or self._services.ledger.reconciling:
            read = self._services.ledger.read
            return await read(lambda tx: tx.kernels(include_ended=include_ended))
        live = [owner.journal.row for owner in self._owners]
        return sorted(live, key=lambda row: (row.created_at, row.kernel_id))

    async def list_ports(self) -> Sequence[m.KernelPortRow]:
        """List what kernels publish and where that is reached, those of the oldest first."""
        rows = await self._rows(include_ended=False)
        holds = await self._services.ledger.read(lambda tx: tx.holds_of_kind(PORT))
        host = self._services.settings.advertised_host
        return await asyncio.to_thread(all_ports, host, rows, holds)

    async def show(self, kernel_id: str) -> m.KernelDetail:
        """Show one kernel with claims, holds, timings and present use."""
        row = await self.find(kernel_id)
        holds = await self._services.ledger.read(lambda tx: tx.holds(row.kernel_id))
        return await detail_of(self._services, row, holds, self._owners.get(row.kernel_id))

    async def wait(self, kernel_id: str, states: Sequence[str]) -> m.KernelRow:
        """Return once the kernel is in one of the states, or TERMINATED."""
        row = await self.find(kernel_id)
        owner = self._owner(row)
        while owner is not None:
            row = owner.journal.row
            if row.state in states or row.state == KernelState.TERMINATED:
                break
            await owner.changed()
        return row_of(row)

    async def logs(self, kernel_id: str, *, follow: bool) -> AsyncIterator[m.LogItem]:
        """Yield the kernel's log; of an ended one, the tail that was kept."""
        row = await self.find(kernel_id)
        sent = False
        try:
            async with aclosing(self._chunks(row, follow=follow)) as chunks:
                async for data in chunks:
                    sent = True
                    yield m.LogItem(data=data)
        except NotFound:
            # Its container was removed meanwhile; what it printed was kept before that.
            if sent:
                return
            async for data in self._services.logs.read(row.kernel_id):
                yield m.LogItem(data=data)

    async def _chunks(self, row: KernelRow, *, follow: bool) -> AsyncGenerator[bytes, None]:
        if row.ended_at is not None:
            kept = self._services.logs.read(row.kernel_id)
        else:
            chunks = self._services.backend.logs(row.container or "", follow=follow)
            kept = items(self._services, chunks, "logs", endless=follow)
        async for data in kept:
            yield data

    async def events(
        self, kernel_id: str | None, *, since: str | None, follow: bool, progress: bool
    ) -> AsyncIterator[m.EventItem]:
        """Yield retained events, and with `follow` those that happen."""
        whole = (await self.find(kernel_id)).kernel_id if kernel_id else None
        bus = self._services.bus
        async for item in bus.watch(whole, since=since, follow=follow, progress=progress):
            yield item

    async def runs(self, kernel_id: str) -> Execution:
        """Find the runs of a running kernel.

        Raises:
            WrongState: when it does not run.
            RunnerUnavailable: when it runs, and its runner cannot connect.
        """
        row = await self.find(kernel_id)
        owner = self._owner(row)
        if owner is None or row.state != KernelState.RUNNING:
            raise WrongState(
                f"kernel {row.kernel_id} is {row.state}, and code runs only in RUNNING",
                hint=f"`agentctl kernels show {row.kernel_id}` says why.",
            )
        if owner.build.runs is None:
            raise RunnerUnavailable(f"the runner of kernel {row.kernel_id} cannot connect")
        return owner.build.runs

    def _owner(self, row: KernelRow) -> Owner | None:
        """Find the owner of a kernel; None when it has ended.

        Raises:
            Reconciling: when the kernel may run, and it is not known yet whether it does.
        """
        owner = self._owners.get(row.kernel_id)
        if owner is None and row.ended_at is None:
            self._refuse_to_guess(f"kernel {row.kernel_id} runs")
        return owner

    def _refuse_to_guess(self, what: str) -> None:
        if why := self._services.ledger.reconciling:
            raise Reconciling(f"it is not known yet whether {what}: {why}")

    async def find(self, kernel_id: str) -> KernelRow:
        """Find a kernel by its id or a unique prefix of it.

        Raises:
            NotFound: when there is none.
            Reconciling: when it is not known yet which there are.
            AmbiguousId: when there are several.
        """
        row = await self._owners.row(kernel_id)
        if row is not None:
            return row
        matches = await self._services.ledger.read(lambda tx: tx.kernel_ids(kernel_id))
        if len(matches) > 1:
            raise AmbiguousId(
                f"{kernel_id!r} begins the ids of several kernels: {', '.join(matches)}",
                details={"matches": matches},
            )
        found = await self._owners.row(matches[0]) if matches else None
        if found is None:
            self._refuse_to_guess(f"there is kernel {kernel_id!r}")
            raise NotFound(
                f"there is no kernel {kernel_id!r}", hint="`agentctl kernels list --all` shows all."
            )
        return found
