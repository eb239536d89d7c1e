"""Reading what is asked of this node: is it well-formed, and could this node ever give it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import AgentError, Unsupported
from agent_core.contracts.info import Support
from agent_core.kernels.asking import ask
from agent_core.kernels.services import Services
from agent_core.kernels.spec import Faults, KernelSpec, read_spec
from agent_core.resources.slots import parse_request


@dataclass(frozen=True, slots=True)
class Asked:
    """One kernel that is asked for.

    Attributes:
        wanted: The specification.
        request: Its slots as amounts.
        readable: Whether the specification itself has no faults, whatever this node lacks.
    """

    wanted: KernelSpec
    request: Mapping[str, Amount]
    readable: bool


class Admission:
    """Reads specifications and names everything that this node cannot do about them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def read(self, data: Mapping[str, Any], faults: Faults) -> Asked:
        """Read one specification; faults are noted, and a placeholder stands in for each."""
        wanted = read_spec(data, faults)
        readable = not faults.errors
        request, slot_faults = parse_request(wanted.slots, self._services.allocator.catalogue)
        faults.extend([*slot_faults, *self._scratch_faults(wanted), *self._port_faults(wanted)])
        faults.extend(await self._image_faults(wanted))
        return Asked(wanted, request, readable=readable)

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
