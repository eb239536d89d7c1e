"""Serving the models of a kernel that runs, and telling how they are."""

from __future__ import annotations

from agent_core.contracts.models import ModelState
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.services import Services
from agent_core.wire.events import MODEL_SERVICE_STATUS


def serve_models(services: Services, build: Assembly) -> None:
    """Let the runner of a kernel serve what its specification says, from now on."""
    spec, runs = build.spec, build.runs
    if runs is None or not spec.model_definition:
        return

    def tell(state: ModelState) -> None:
        services.bus.progress(
            MODEL_SERVICE_STATUS.name,
            spec.kernel_id,
            spec.session_id,
            {
                "model": state.name,
                "status": state.status.value,
                "message": state.message,
                "restarts": state.restarts,
                "exit_code": state.exit_code,
                "incarnation": build.incarnation,
            },
        )

    runs.serve(spec.model_definition, tell)
