"""Ports: those of the node that a kernel's services are published on."""

from __future__ import annotations

from collections.abc import Sequence

from agent_core.contracts.backend import PublishedPort
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.published import KIND, port_to_data, ports_of
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow


class PortsStep(Step):
    """Chooses a port of the node for each port of each service, all of them or none.

    The number is the name of the hold, so it is chosen before the hold is written. Nothing else is
    there to take or to give back: the pool learns that a port is free when that is durable.
    """

    name = "ports"
    kind = KIND

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold for each port, keyed by its number on the node."""
        pool, kernel_id = self.services.ports, build.spec.kernel_id
        inside = [(each, port) for each in build.publishes for port in each.container_ports]
        numbers = pool.take(kernel_id, len(inside))
        build.ports = tuple(
            PublishedPort(each.name, each.protocol, port, number, pool.host)
            for (each, port), number in zip(inside, numbers, strict=True)
        )
        return [
            HoldRow(
                self.kind,
                str(port.host_port),
                kernel_id,
                build.incarnation,
                undo=port_to_data(port),
            )
            for port in build.ports
        ]

    async def take_again(self, build: Assembly, held: Sequence[HoldRow]) -> None:
        """Publish on the ports that the kernel has: whoever knows them goes on using them."""
        build.ports = tuple(ports_of(held))

    def freed(self, hold: HoldRow) -> None:
        """Let the port rest, and then be given again."""
        if hold.key.isdecimal():
            self.services.ports.release(hold.kernel_id, int(hold.key))
