"""What the rest of the kernels' room needs of whatever runs a kernel's code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from agent_core.contracts.errors import AgentError
from agent_core.contracts.models import ModelService
from agent_core.contracts.runner import RunRecord, ServiceState
from agent_core.kernels.runner.kernel_models import Tell
from agent_core.wire.models import OutputItem, RunResult
from agent_core.wire.params import ExecuteCode


class Execution(Protocol):
    """Runs code in one incarnation of a kernel, by the core's client or by a backend's own."""

    @property
    def offences(self) -> int:
        """How often the kernel's side broke the protocol."""

    @property
    def offence(self) -> str:
        """What it did last."""

    @property
    def connected(self) -> bool:
        """Whether the kernel's side is there now."""

    async def open(self) -> None:
        """Get ready for a container that is about to be made."""

    async def resume(self) -> None:
        """Get ready for a container that an earlier agent made, without waiting for it."""

    async def wait_ready(self, timeout: float) -> None:
        """Wait until code can be run.

        Raises:
            RunnerUnavailable: when it cannot within `timeout` seconds.
        """

    def execute(self, params: ExecuteCode) -> AsyncIterator[OutputItem | RunResult]:
        """Run code and yield what it says, the result last; abandoning it interrupts the run."""

    async def complete(self, run_id: str, code: str, cursor: int) -> Sequence[str]:
        """List completions at a position of a text; there are none when no answer comes."""

    async def send_input(self, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""

    async def interrupt(self, run_id: str | None) -> None:
        """Interrupt a run, by default the one under way."""

    async def history(self) -> Sequence[RunRecord]:
        """List the last runs that were asked for, the oldest first."""

    def serve(self, models: Sequence[ModelService], tell: Tell) -> None:
        """Keep models running from now on, and tell whenever something of one changes."""

    async def services(self) -> Sequence[ServiceState]:
        """List the kernel's services."""

    async def start_service(self, name: str, options: Mapping[str, str]) -> ServiceState:
        """Start a service, or say how it is when it runs."""

    async def shutdown_service(self, name: str) -> None:
        """End a service; succeeds when it does not run."""

    def detach(self) -> None:
        """Leave the runs as they are when their callers go: the agent is about to stop."""

    async def close(self, error: AgentError | None = None) -> None:
        """Give the connection up and tell every caller why; what runs goes on."""
