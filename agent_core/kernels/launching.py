"""How a kernel's container is started: where it sees its directories, and what runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent_core.contracts.backend import Paths
from agent_core.contracts.edits import ContainerEdits, Mount, Permission
from agent_core.contracts.errors import InternalError
from agent_core.contracts.runner import Launch, LaunchContext
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.services import Services
from agent_core.kernels.startup import BOOTSTRAP

WORK, CONFIG = "work", "config"
"""The user's directory of a scratch, and the agent's."""

RESULTS = "runner"
"""The directory within the agent's own where the kernel's runner keeps what must survive."""

RUNTIME_TYPE: Final = "ai.backend.runtime-type"
RUNTIME_PATH: Final = "ai.backend.runtime-path"


def paths_of(services: Services, build: Assembly) -> Paths:
    """Say where the container sees the directories of its kernel."""
    return services.backend.paths(_on_the_host(build))


def _on_the_host(build: Assembly) -> Paths:
    if build.scratch is None:
        raise InternalError(f"kernel {build.spec.kernel_id} has no scratch yet")
    scratch = build.scratch.path
    return Paths(
        scratch=scratch,
        config=str(Path(scratch) / CONFIG) if scratch else "",
        runner=build.bundle,
        run=str(build.run_dir),
    )


def own_edits(build: Assembly, seen: Paths) -> ContainerEdits:
    """Say what every kernel has of the agent's: labels, and its directories where it sees others.

    What the agent writes is read-only there, but for the place where the runner keeps its results.
    """
    spec = build.spec
    labels = {"ai.backend.kernel-id": spec.kernel_id, "ai.backend.session-id": spec.session_id}
    host = _on_the_host(build)
    if not host.scratch or seen.scratch == host.scratch:
        return ContainerEdits(labels=labels)
    mounts = (
        Mount(f"{host.scratch}/{WORK}", f"{seen.scratch}/{WORK}", Permission.RW),
        Mount(host.config, seen.config),
        Mount(f"{host.config}/{RESULTS}", f"{seen.config}/{RESULTS}", Permission.RW),
        Mount(host.run, seen.run),
        *((Mount(host.runner, seen.runner),) if host.runner else ()),
    )
    return ContainerEdits(labels=labels, mounts=mounts)


def launch_of(services: Services, build: Assembly, paths: Paths) -> Launch:
    """Say what is started in the container; nothing where the backend brings its own runner."""
    if services.runner is None:
        if build.spec.startup.bootstrap:
            build.warnings.append("bootstrap_script: the runner of this backend runs none")
        return Launch(argv=())
    labels = build.image.labels if build.image else {}
    work = str(Path(paths.scratch) / WORK)
    context = LaunchContext(
        kernel_id=build.spec.kernel_id,
        incarnation=build.incarnation,
        run_dir=paths.run,
        work_dir=work,
        state_dir=str(Path(paths.config) / RESULTS),
        runtime_type=labels.get(RUNTIME_TYPE, "shell"),
        runtime_path=labels.get(RUNTIME_PATH, "/bin/sh"),
        runner_dir=paths.runner,
        bootstrap=f"{work}/{BOOTSTRAP}" if build.spec.startup.bootstrap else "",
        debug=services.settings.debug_runners,
    )
    return services.runner.launch(context)
