"""The run directory: where the agent listens for the kernel's runner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent_core.contracts.errors import InternalError
from agent_core.failpoints import Effect
from agent_core.kernels.assembly import Assembly, run_dir
from agent_core.kernels.runner.making import make_execution
from agent_core.kernels.steps.base import Step
from agent_core.kernels.steps.removal import remove_tree
from agent_core.ledger import HoldRow

MAKE = Effect("run-dir-make", "a run directory is made, with the socket in it")
REMOVE = Effect("run-dir-remove", "a run directory is removed")


class RunDirStep(Step):
    """Makes the run directory and listens in it, unless the backend brings its own runner."""

    name = "socket"
    kind = "run-dir"
    kept = False

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold, keyed by the path; what the backend brings needs no directory."""
        if self.services.backend.brings_runner:
            return []
        key = str(build.run_dir)
        return [HoldRow(self.kind, key, build.spec.kernel_id, build.incarnation)]

    async def take(self, build: Assembly) -> None:
        """Make the directory and open the link."""
        backend = self.services.backend
        build.runs = make_execution(
            backend,
            build.spec.kernel_id,
            build.incarnation,
            build.container,
            build.run_dir,
            build.ports,
        )
        if backend.brings_runner:
            return
        with MAKE:
            build.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            await build.runs.open()
            self.services.settings.kernel_user.own(build.run_dir)

    async def give_back(self, hold: HoldRow) -> None:
        """Remove the directory with the socket."""
        path = Path(hold.key)
        # A row that was tampered with must not make us delete another tree.
        if path != run_dir(path.parent, hold.kernel_id):
            raise InternalError(f"{path} is not a run directory of kernel {hold.kernel_id}")
        with REMOVE:
            async with asyncio.timeout(self.services.settings.call_timeout):
                await asyncio.to_thread(remove_tree, path)
