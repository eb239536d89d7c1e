"""The models of a kernel whose backend brings its runner: started there, and remembered here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from agent_core.contracts.errors import AgentError
from agent_core.contracts.models import ModelService, ModelState, ModelStatus
from agent_core.kernels.runner.kernel_models import Tell


class BroughtModels:
    """Has each model started, and tells what came of it.

    Args:
        start: Has the runner start one; what it returns should be a state.
    """

    __slots__ = ("_serving", "_start", "_states", "_tell")

    def __init__(self, start: Callable[[ModelService], Awaitable[object]]) -> None:
        self._start = start
        self._states: dict[str, ModelState] = {}
        self._tell: Tell = _nobody
        self._serving: asyncio.Task[None] | None = None

    def serve(self, models: Sequence[ModelService], tell: Tell) -> None:
        """Begin to start models."""
        self._tell = tell
        self._serving = asyncio.get_running_loop().create_task(self._serve(models))

    async def _serve(self, models: Sequence[ModelService]) -> None:
        for model in models:
            self._become(ModelState(model.name, ModelStatus.STARTING))
        for model in models:
            try:
                state = await self._start(model)
            except AgentError as exc:
                state = ModelState(model.name, ModelStatus.FAILED, exc.message)
            if not isinstance(state, ModelState) or state.name != model.name:
                why = f"its runner answered {state!r:.200}"
                state = ModelState(model.name, ModelStatus.FAILED, why)
            self._become(state)

    def state(self, name: str) -> ModelState | None:
        """Say how a model is; None when there is none of this name."""
        return self._states.get(name)

    def started(self, name: str) -> None:
        """See that a service was started, which may be a model."""
        if name in self._states:
            self._become(ModelState(name, ModelStatus.HEALTHY))

    def stopped(self, name: str) -> None:
        """See that a service was ended, which may be a model."""
        if name in self._states:
            self._become(ModelState(name, ModelStatus.STOPPED))

    def close(self) -> None:
        """Start no more."""
        if self._serving is not None:
            self._serving.cancel()

    def _become(self, state: ModelState) -> None:
        if state != self._states.get(state.name):
            self._states[state.name] = state
            self._tell(state)


def _nobody(_: ModelState) -> None:
    return None
