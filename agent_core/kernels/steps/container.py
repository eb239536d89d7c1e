"""The container: created, started, and compared with what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent_core.contracts.backend import ContainerSpec, Paths, Presence
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.errors import InternalError, KernelFailed, WrongState
from agent_core.contracts.info import Support
from agent_core.contracts.runner import Launch, LaunchContext
from agent_core.failpoints import Effect
from agent_core.kernels.asking import ask
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.published import environment
from agent_core.kernels.records import record_of
from agent_core.kernels.states import Reason
from agent_core.kernels.steps.base import Step
from agent_core.kernels.steps.scratch import CONFIG, WORK
from agent_core.ledger import HoldRow

CREATE = Effect("container-create", "a container is created")
START = Effect("container-start", "a container is started")
REMOVE = Effect("container-remove", "a container is removed")

RUNTIME_TYPE = "ai.backend.runtime-type"
RUNTIME_PATH = "ai.backend.runtime-path"


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
        build.paths = self._paths(build)
        launch = self._launch(build, build.paths)
        build.edits = build.edits | MergedEdits.of("runner", ContainerEdits(mounts=launch.mounts))
        spec = ContainerSpec(
            name=build.container,
            owner=settings.agent_id,
            image=build.spec.image,
            argv=launch.argv,
            env=self._environment(build, launch),
            cwd=str(Path(build.paths.scratch) / WORK),
            edits=build.edits.resolve(),
            record=self._record(build),
            log_limit=settings.log_limit,
            ports=build.ports,
        )
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

    def _paths(self, build: Assembly) -> Paths:
        if build.scratch is None:
            raise InternalError(f"kernel {build.spec.kernel_id} has no scratch yet")
        scratch = build.scratch.path
        host = Paths(
            scratch=scratch,
            config=str(Path(scratch) / CONFIG) if scratch else "",
            runner="",
            run=str(build.run_dir),
        )
        return self.services.backend.paths(host)

    def _launch(self, build: Assembly, paths: Paths) -> Launch:
        if self.services.runner is None:
            return Launch(argv=())  # the backend brings its own
        labels = build.image.labels if build.image else {}
        context = LaunchContext(
            kernel_id=build.spec.kernel_id,
            incarnation=build.incarnation,
            run_dir=paths.run,
            work_dir=str(Path(paths.scratch) / WORK),
            state_dir=str(Path(paths.config) / "runner"),
            runtime_type=labels.get(RUNTIME_TYPE, "shell"),
            runtime_path=labels.get(RUNTIME_PATH, "/bin/sh"),
        )
        return self.services.runner.launch(context)

    def _environment(self, build: Assembly, launch: Launch) -> dict[str, str]:
        image_env = build.image.env if build.image else {}
        own = {
            "HOME": str(Path(build.paths.scratch if build.paths else "/") / WORK),
            "BACKENDAI_KERNEL_ID": build.spec.kernel_id,
            "BACKENDAI_SESSION_ID": build.spec.session_id,
            **build.spec.cluster.environment(),
            **environment(build.ports, mapped=self._maps_ports()),
        }
        plugins = build.edits.resolve().env
        for name in sorted(build.spec.env.keys() & plugins.keys()):
            owner = " and ".join(build.edits.sources("env", name))
            build.warnings.append(f"env {name}: set by plugin {owner}, the value asked for is not")
        below = (image_env, own, build.spec.env, launch.env)
        return build.edits.environment(*below)

    def _maps_ports(self) -> bool:
        return self.services.backend.capabilities().get("ports") is Support.YES

    def _record(self, build: Assembly) -> dict[str, object]:
        """Write down what the ledger has of the kernel: all but this step's hold is taken."""
        if build.row is None:
            raise InternalError(f"kernel {build.spec.kernel_id} is not in the ledger")
        current = replace(build.row, incarnation=build.incarnation, container=build.container)
        return record_of(current, build.held)


class StartStep(Step):
    """Starts the container."""

    name = "start"
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
