"""How a kernel's container is started: where it sees its directories, and what runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent_core.contracts.backend import Paths
from agent_core.contracts.errors import InternalError
from agent_core.contracts.runner import Launch, LaunchContext
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.services import Services

WORK, CONFIG = "work", "config"
"""The user's directory of a scratch, and the agent's."""

RUNTIME_TYPE: Final = "ai.backend.runtime-type"
RUNTIME_PATH: Final = "ai.backend.runtime-path"


def paths_of(services: Services, build: Assembly) -> Paths:
    """Say where the container sees the directories of its kernel."""
    if build.scratch is None:
        raise InternalError(f"kernel {build.spec.kernel_id} has no scratch yet")
    scratch = build.scratch.path
    host = Paths(
        scratch=scratch,
        config=str(Path(scratch) / CONFIG) if scratch else "",
        runner="",
        run=str(build.run_dir),
    )
    return services.backend.paths(host)


def launch_of(services: Services, build: Assembly, paths: Paths) -> Launch:
    """Say what is started in the container; nothing where the backend brings its own runner."""
    if services.runner is None:
        return Launch(argv=())
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
    return services.runner.launch(context)
