"""The runner: a kernel runs once its runner has connected."""

from __future__ import annotations

from agent_core.kernels.assembly import Assembly
from agent_core.kernels.states import Reason
from agent_core.kernels.steps.base import Step


class RunnerStep(Step):
    """Waits for the runner."""

    name = "runner"
    interruptible = True
    failure = Reason.FAILED_TO_START

    async def take(self, build: Assembly) -> None:
        """Wait until the runner is connected."""
        if build.runs is not None:
            await build.runs.wait_ready(self.services.settings.init_timeout)
