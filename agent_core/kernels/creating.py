"""Accepting a create: read whole, answered when it was asked before, refused, or begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_core import clock
from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    CreateInterrupted,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import Support
from agent_core.kernels.asking import ask
from agent_core.kernels.assembly import Assembly, container_name, run_dir
from agent_core.kernels.explaining import plan_of
from agent_core.kernels.owners import Owners
from agent_core.kernels.services import Services
from agent_core.kernels.spec import Faults, KernelSpec, read_spec
from agent_core.kernels.states import KernelState, Reason
from agent_core.ledger import KernelRow
from agent_core.resources.slots import parse_request
from agent_core.wire import decisions as d
from agent_core.wire import models as m


class Creating:
    """Turns specifications into kernels that have an owner."""

    def __init__(self, services: Services, owners: Owners) -> None:
        self._services = services
        self._owners = owners

    async def create(self, data: Mapping[str, Any]) -> m.Created:
        """Accept a create; answers once PREPARING is durable. Idempotent by kernel id.

        Raises:
            InvalidSpec: when the specification has faults, all of them named.
            ResourceRefused: when the slots cannot be granted exactly.
            Conflict: when the id was used with another specification.
            CreateInterrupted: when this very create was undone after a crash.
            WrongState: when the kernel of this id has ended.
        """
        faults = Faults()
        wanted = read_spec(data, faults)
        readable = not faults.errors
        request = await self._read_rest(wanted, faults)
        # What was accepted once stays accepted, whatever this node lacks meanwhile. From here to
        # the start nothing else is awaited, so that no second create can come between.
        row = await self._owners.row(wanted.kernel_id) if readable else None
        if row is not None:
            return _repeated(row, wanted)
        faults.raise_if_any()
        row = self._first_row(wanted)
        build = Assembly(
            spec=wanted,
            incarnation=row.incarnation,
            container=row.container or "",
            run_dir=run_dir(self._services.settings.run_root, row.kernel_id),
        )
        decision = self._services.allocator.reserve(wanted.kernel_id, 1, request)
        build.claims, build.why = decision.claims, decision.summary()
        await self._owners.start(row, build)
        return m.Created(kernel_id=row.kernel_id, session_id=row.session_id, state=row.state)

    async def plan(self, data: Mapping[str, Any]) -> d.Plan:
        """Decide what a create would get now, and why; takes nothing.

        Raises:
            InvalidSpec: as `create`.
            AgentError: when the slots can never be granted as they are asked.
        """
        faults = Faults()
        wanted = read_spec(data, faults)
        request = await self._read_rest(wanted, faults)
        faults.raise_if_any()
        plan = self._services.allocator.plan(wanted.kernel_id, 1, request)
        return plan_of(wanted.kernel_id, plan)

    async def _read_rest(self, wanted: KernelSpec, faults: Faults) -> dict[str, Amount]:
        request, slot_faults = parse_request(wanted.slots, self._services.allocator.catalogue)
        faults.extend([*slot_faults, *self._scratch_faults(wanted), *self._port_faults(wanted)])
        faults.extend(await self._image_faults(wanted))
        return request

    def _scratch_faults(self, wanted: KernelSpec) -> Sequence[AgentError]:
        scratch = self._services.scratch
        if wanted.scratch_size is None or scratch.info.supports("size-limit") is not Support.NO:
            return ()
        return (
            Unsupported(
                f"scratch_size: {scratch.record.label} has no limits",
                hint="Leave scratch_size out, or choose a scratch-type with the size-limit.",
            ),
        )

    def _port_faults(self, wanted: KernelSpec) -> Sequence[AgentError]:
        try:
            self._services.ports.check(sum(len(each.container_ports) for each in wanted.ports))
        except AgentError as exc:
            return (exc,)
        return ()

    async def _image_faults(self, wanted: KernelSpec) -> Sequence[AgentError]:
        """A backend that cannot pull knows at once that an image is missing."""
        backend = self._services.backend
        if not wanted.image or backend.info.supports("images.pull") is not Support.NO:
            return ()
        try:
            await ask(self._services, backend.inspect_image(wanted.image), "inspect_image")
        except AgentError as exc:
            return (exc,)
        return ()

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


def _repeated(row: KernelRow, wanted: KernelSpec) -> m.Created:
    """Answer a create of an id that is known."""
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
