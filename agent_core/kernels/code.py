"""Running code in kernels, as the RPC sees it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

from agent_core.kernels.service import KernelService
from agent_core.wire import models as m


class CodeService:
    """Finds the kernel's runs and hands the call on."""

    def __init__(self, kernels: KernelService) -> None:
        self._kernels = kernels

    async def execute(self, params: m.ExecuteCode) -> AsyncIterator[m.OutputItem | m.RunResult]:
        """Run code; yields output and, last, the result. Abandoning the stream interrupts."""
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
