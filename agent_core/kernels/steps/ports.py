"""Ports: those of the node that a kernel's services are published on."""

from __future__ import annotations

from collections.abc import Sequence

from agent_core.contracts.backend import PublishedPort
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.published import KIND, LEADS_TO, fronts_of, port_to_data, ports_of
from agent_core.kernels.steps.base import Step
from agent_core.kernels.tls.fronts import INSIDE, Front
from agent_core.ledger import HoldRow


class PortsStep(Step):
    """Chooses a port of the node for each port of each service, all of them or none.

    The number is the name of the hold, so it is chosen before the hold is written; the pool learns
    that a port is free when that is durable. Where a certificate is configured a port of the kernel
    is published to this node alone, and the agent listens with TLS at another one in front of it.
    """

    name = "ports"
    kind = KIND

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold for each port, keyed by its number on the node; with TLS two."""
        pool, kernel_id = self.services.ports, build.spec.kernel_id
        inside = [(each, port) for each in build.publishes for port in each.container_ports]
        with_tls = self.services.tls.enabled
        numbers = pool.take(kernel_id, len(inside) * (2 if with_tls else 1))
        own, in_front = numbers[: len(inside)], numbers[len(inside) :]
        host = INSIDE if with_tls else pool.host
        build.ports = tuple(
            PublishedPort(each.name, each.protocol, port, number, host)
            for (each, port), number in zip(inside, own, strict=True)
        )
        undo = {port.host_port: port_to_data(port) for port in build.ports}
        build.fronts = tuple(map(Front, in_front, own))
        undo |= {front.port: {LEADS_TO: front.leads_to} for front in build.fronts}
        return [
            HoldRow(self.kind, str(number), kernel_id, build.incarnation, undo=data)
            for number, data in undo.items()
        ]

    async def take(self, build: Assembly) -> None:
        """Listen in front of the ports, where that is ours to do."""
        await self._listen(build.fronts)
        if self.services.ports_file is not None:
            spec = build.spec
            self.services.ports_file.publish(
                spec.kernel_id, spec.session_id, build.ports, build.fronts
            )

    async def take_again(self, build: Assembly, held: Sequence[HoldRow]) -> None:
        """Publish on the ports that the kernel has: whoever knows them goes on using them."""
        build.ports = tuple(ports_of(held))
        await self._listen(tuple(fronts_of(held)))

    async def _listen(self, fronts: Sequence[Front]) -> None:
        for front in fronts:
            await self.services.tls.listen(front)

    async def give_back(self, hold: HoldRow) -> None:
        """Listen no more; a port of the kernel's own went with its container."""
        await self.services.tls.close([front.port for front in fronts_of([hold])])

    def freed(self, hold: HoldRow) -> None:
        """Let the port rest, and then be given again."""
        if not hold.key.isdecimal():
            return
        self.services.ports.release(hold.kernel_id, int(hold.key))
        if self.services.ports_file is not None:
            self.services.ports_file.withdraw(hold.kernel_id, int(hold.key))
