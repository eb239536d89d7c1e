"""The run directory: where the agent listens for the kernel's runner."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from agent_core.kernels.assembly import Assembly
from agent_core.kernels.runner.runs import Runs
from agent_core.kernels.steps.base import Step
from agent_core.ledger import HoldRow


class RunDirStep(Step):
    """Makes the run directory and listens in it."""

    name = "socket"
    kind = "run-dir"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold, keyed by the path."""
        key = str(build.run_dir)
        return [HoldRow(self.kind, key, build.spec.kernel_id, build.incarnation)]

    async def take(self, build: Assembly) -> None:
        """Make the directory and open the link."""
        build.run_dir.mkdir(mode=0o700, exist_ok=True)
        build.runs = Runs(build.spec.kernel_id, build.incarnation, build.run_dir)
        await build.runs.link.open()

    async def give_back(self, hold: HoldRow) -> None:
        """Remove the directory with the socket."""
        path = Path(hold.key)
        # A row that was tampered with must not make us delete another tree.
        if path.parent == self.services.settings.run_root:
            shutil.rmtree(path, ignore_errors=True)
