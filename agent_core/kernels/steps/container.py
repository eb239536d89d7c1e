"""The container: created, started, and compared with what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent_core.contracts.backend import ContainerSpec, Presence
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.errors import InternalError, KernelFailed, WrongState
from agent_core.failpoints import Effect
from agent_core.kernels.asking import ask
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.launching import WORK
from agent_core.kernels.records import record_of
from agent_core.kernels.states import Reason
from agent_core.kernels.steps.base import Step
from agent_core.kernels.telling import tell_kernel_config
from agent_core.ledger import HoldRow

CREATE = Effect("container-create", "a container is created")
START = Effect("container-start", "a container is started")
REMOVE = Effect("container-remove", "a container is removed")


class ContainerStep(Step):
    """Creates the container; giving it back stops, kills and removes it."""

    name = "container"
    kind = "container"
    kept = False
    recorded = True

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One hold, keyed by the name that we chose."""
        return [HoldRow(self.kind, build.container, build.spec.kernel_id, build.incarnation)]

    async def take(self, build: Assembly) -> None:
        """Put everything together and create it."""
        settings = self.services.settings
        if build.paths is None or build.launch is None:
            raise InternalError(f"kernel {build.spec.kernel_id} has no environment yet")
        if settings.cores is not None:
            limit = ContainerEdits(rlimits={"core": settings.cores.limit})
            build.edits = build.edits | MergedEdits.of("coredump", limit)
        spec = ContainerSpec(
            name=build.container,
            owner=settings.agent_id,
            image=build.spec.image,
            argv=build.launch.argv,
            env=build.env,
            cwd=str(Path(build.paths.scratch) / WORK),
            edits=build.edits.resolve(),
            record=self._record(build),
            log_limit=settings.log_limit,
            ports=build.ports,
            user=str(settings.kernel_user),
            hostname=build.spec.cluster.host,
        )
        tell_kernel_config(self.services, build.spec.kernel_id, spec)
        with CREATE:
            await ask(self.services, self.services.backend.create(spec), "create")

    async def give_back(self, hold: HoldRow) -> None:
        """Remove it, killing it where it runs; returns once it is proven gone."""
        backend = self.services.backend
        with REMOVE:
            await ask(self.services, backend.remove(hold.key), "remove")
        seen = await ask(self.services, backend.inspect(hold.key), "inspect")
        if seen.presence is not Presence.ABSENT:
            why = f": {seen.reason}" if seen.reason else ""
            raise WrongState(f"container {hold.key} is {seen.presence} after its removal{why}")

    def _record(self, build: Assembly) -> dict[str, object]:
        """Write down what the ledger has of the kernel: all but this step's hold is taken."""
        if build.row is None:
            raise InternalError(f"kernel {build.spec.kernel_id} is not in the ledger")
        current = replace(build.row, incarnation=build.incarnation, container=build.container)
        return record_of(current, build.held)


class StartStep(Step):
    """Starts the container.

    A start may hang for as long as what is mounted or hooked into the container does. It is not
    waited for where the kernel is to end: removing the container undoes it, whatever becomes of it.
    """

    name = "start"
    interruptible = True
    explains = True
    failure = Reason.FAILED_TO_START

    async def take(self, build: Assembly) -> None:
        """Start it; the container's hold undoes that too."""
        with START:
            await ask(self.services, self.services.backend.start(build.container), "start")


class VerifyStep(Step):
    """Compares what runs with what was promised, and fails closed."""

    name = "verify"
    failure = Reason.FAILED_TO_START

    async def take(self, build: Assembly) -> None:
        """Fail when the container does not have exactly what was allocated."""
        edits = build.edits.resolve()
        backend = self.services.backend
        faults = await ask(self.services, backend.verify(build.container, edits), "verify")
        if faults:
            raise KernelFailed(
                f"container {build.container} is not as promised: {'; '.join(faults)}"
            )
