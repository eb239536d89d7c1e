"""Whether a kernel's code is run by the core's own client or by what its backend brings."""

from __future__ import annotations

from pathlib import Path

from agent_core.contracts.backend import ContainerBackend, PublishedPort
from agent_core.contracts.info import Support
from agent_core.contracts.runner import RunnerContext, ServiceState
from agent_core.kernels.published import places
from agent_core.kernels.runner.brought import BroughtRuns
from agent_core.kernels.runner.execution import Execution
from agent_core.kernels.runner.runs import Runs


def make_execution(
    backend: ContainerBackend,
    kernel_id: str,
    incarnation: int,
    container: str,
    run_dir: Path,
    ports: tuple[PublishedPort, ...],
) -> Execution:
    """Make what runs the code of one incarnation; nothing is opened yet.

    Raises:
        Unsupported: when the backend brings a runner and does not make one.
    """
    if not backend.brings_runner:
        mapped = backend.capabilities().get("ports") is Support.YES
        return Runs(kernel_id, incarnation, run_dir, places(ports, mapped=mapped))
    context = RunnerContext(kernel_id, incarnation, container, _services(ports))
    return BroughtRuns(kernel_id, backend.code_runner(context), backend.info.name)


def _services(ports: tuple[PublishedPort, ...]) -> tuple[ServiceState, ...]:
    """Gather the ports of each service, in the order that they were asked for."""
    named = {port.name: port for port in reversed(ports)}
    return tuple(
        ServiceState(
            name,
            named[name].protocol,
            tuple(port.container_port for port in ports if port.name == name),
        )
        for name in dict.fromkeys(port.name for port in ports)
    )
