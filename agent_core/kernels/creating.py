"""Accepting a create: read whole, answered when it was asked before, refused, or begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_core import clock
from agent_core.contracts.errors import AgentError, Reconciling
from agent_core.kernels.admission import Admission, Asked
from agent_core.kernels.assembly import Assembly, container_name, run_dir
from agent_core.kernels.explaining import plan_of
from agent_core.kernels.owners import Owners
from agent_core.kernels.repeating import repeated
from agent_core.kernels.services import Services
from agent_core.kernels.sessions import place
from agent_core.kernels.spec import Faults, KernelSpec
from agent_core.kernels.states import KernelState
from agent_core.ledger import KernelRow
from agent_core.wire import decisions as d
from agent_core.wire import models as m


class Creating:
    """Turns specifications into kernels that have an owner."""

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners
        self._admission = Admission(services)

    async def create(self, data: Mapping[str, Any]) -> m.Created:
        """Accept a create; answers once PREPARING is durable. Idempotent by kernel id.

        Raises:
            InvalidSpec: when the specification has faults, all of them named.
            ResourceRefused: when the slots cannot be granted exactly.
            Conflict: when the id was used with another specification.
            CreateInterrupted: when this very create was undone after a crash.
            Reconciling: when the ledger was lost and it is not known yet what is taken.
            WrongState: when the kernel of this id has ended.
        """
        return (await self._create([("", data)]))[0]

    async def create_together(
        self, session_id: str, specs: Sequence[Mapping[str, Any]]
    ) -> list[m.Created]:
        """Accept all kernels of a session at once, or none of them. Idempotent by their ids.

        Raises:
            InvalidSpec: when a specification has faults, all of them named.
            AgentError: as `create`, of the first kernel that cannot be had.
        """
        placed = place(session_id, specs)
        return await self._create([(f"kernels[{i}].", spec) for i, spec in enumerate(placed)])

    async def _create(self, specs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[m.Created]:
        faults = Faults()
        asked = [await self._read(prefix, data, faults) for prefix, data in specs]
        # What was accepted once stays accepted, whatever this node lacks meanwhile. From here to
        # the start nothing else is awaited, so that no second create can come between.
        if all(each.readable for each in asked):
            rows = await self._owners.rows([each.wanted.kernel_id for each in asked])
            if any(rows):
                return repeated(rows, [each.wanted for each in asked])
        self._refuse_while_reconciling()
        faults.raise_if_any()
        kernels = self._reserved(asked)
        await self._owners.start(kernels)
        return [
            m.Created(kernel_id=row.kernel_id, session_id=row.session_id, state=row.state)
            for row, _ in kernels
        ]

    async def _read(self, prefix: str, data: Mapping[str, Any], faults: Faults) -> Asked:
        own = Faults()
        asked = await self._admission.read(data, own)
        faults.extend(own.within(prefix))
        return asked

    def _reserved(self, asked: Sequence[Asked]) -> list[tuple[KernelRow, Assembly]]:
        """Reserve the slots of all kernels, or of none."""
        kernels: list[tuple[KernelRow, Assembly]] = []
        allocator = self._services.allocator
        try:
            for each in asked:
                decision = allocator.reserve(each.wanted.kernel_id, 1, each.request)
                row, build = self._begun(each.wanted)
                build.claims, build.why = decision.claims, decision.summary()
                kernels.append((row, build))
        except AgentError:
            for _, build in kernels:
                for claim in build.claims:
                    allocator.release(claim.id)
            raise
        return kernels

    def _begun(self, wanted: KernelSpec) -> tuple[KernelRow, Assembly]:
        row = self._first_row(wanted)
        build = Assembly(
            spec=wanted,
            incarnation=row.incarnation,
            container=row.container or "",
            run_dir=run_dir(self._services.settings.run_root, row.kernel_id),
        )
        return row, build

    async def plan(self, data: Mapping[str, Any]) -> d.Plan:
        """Decide what a create would get now, and why; takes nothing.

        Raises:
            InvalidSpec: as `create`.
            Reconciling: as `create`.
            AgentError: when the slots can never be granted as they are asked.
        """
        self._refuse_while_reconciling()
        faults = Faults()
        asked = await self._admission.read(data, faults)
        faults.raise_if_any()
        kernel_id = asked.wanted.kernel_id
        return plan_of(kernel_id, self._services.allocator.plan(kernel_id, 1, asked.request))

    def _refuse_while_reconciling(self) -> None:
        if why := self._services.ledger.reconciling:
            raise Reconciling(f"the ledger was lost, and it is not known yet what is taken: {why}")

    def _first_row(self, wanted: KernelSpec) -> KernelRow:
        return KernelRow(
            kernel_id=wanted.kernel_id,
            session_id=wanted.session_id,
            state=KernelState.PREPARING.value,
            spec=wanted.to_data(),
            spec_digest=wanted.digest,
            created_at=clock.wall(),
            container=container_name(self._services.settings.agent_id, wanted.kernel_id, 1),
        )
