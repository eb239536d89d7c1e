"""Running code in kernels, as the RPC sees it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict

from agent_core.contracts.models import ModelState
from agent_core.contracts.runner import ServiceState
from agent_core.kernels.batch import refuse_own
from agent_core.kernels.service import KernelService
from agent_core.wire import content as c
from agent_core.wire import models as m
from agent_core.wire import params as p


class CodeService:
    """Finds the kernel's runs and hands the call on."""

    def __init__(self, kernels: KernelService) -> None:
        self._kernels = kernels

    async def execute(self, params: p.ExecuteCode) -> AsyncIterator[m.OutputItem | m.RunResult]:
        """Run code; yields output and, last, the result. Abandoning the stream interrupts.

        Raises:
            InvalidArgument: when the run's id is one of the agent's own.
        """
        refuse_own(params.run_id)
        runs = await self._kernels.runs(params.kernel_id)
        async for item in runs.execute(params):
            yield item

    async def send_input(self, kernel_id: str, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""
        runs = await self._kernels.runs(kernel_id)
        await runs.send_input(run_id, text)

    async def interrupt(self, kernel_id: str, run_id: str | None) -> None:
        """Interrupt a run, by default the current one."""
        runs = await self._kernels.runs(kernel_id)
        await runs.interrupt(run_id)

    async def complete(self, kernel_id: str, code: str, cursor: int) -> Sequence[str]:
        """List completions at the cursor."""
        runs = await self._kernels.runs(kernel_id)
        return await runs.complete(f"complete-{uuid.uuid4().hex[:12]}", code, cursor)

    async def runs(self, kernel_id: str) -> Sequence[c.RunRow]:
        """List the last runs of a kernel, whoever asked for them, the oldest first."""
        runs = await self._kernels.runs(kernel_id)
        return [c.RunRow(**asdict(record)) for record in await runs.history()]

    async def services(self, kernel_id: str) -> Sequence[c.ServiceRow]:
        """List the services of a kernel."""
        runs = await self._kernels.runs(kernel_id)
        return [_row(state) for state in await runs.services()]

    async def start_service(
        self, kernel_id: str, name: str, options: Mapping[str, str]
    ) -> c.ServiceRow:
        """Start a service, or say how it is when it runs.

        Raises:
            NotFound: when the kernel has no such service.
            Unsupported: when its runner starts none.
            ServiceFailed: when it ends, or does not answer in time.
        """
        runs = await self._kernels.runs(kernel_id)
        return _row(await runs.start_service(name, options))

    async def shutdown_service(self, kernel_id: str, name: str) -> None:
        """End a service; succeeds when it does not run."""
        runs = await self._kernels.runs(kernel_id)
        await runs.shutdown_service(name)


def _row(state: ServiceState) -> c.ServiceRow:
    ports = list(state.ports)
    return c.ServiceRow(
        name=state.name,
        protocol=state.protocol,
        ports=ports,
        running=state.running,
        exit_code=state.exit_code,
        model=None if state.model is None else _model_row(state.model),
    )


def _model_row(state: ModelState) -> c.ModelRow:
    return c.ModelRow(status=state.status.value, message=state.message, restarts=state.restarts)
