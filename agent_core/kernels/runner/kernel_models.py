"""The models of one kernel: kept running by its runner, and known here by what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from agent_core.contracts.errors import RunnerUnavailable, ServiceFailed
from agent_core.contracts.models import ModelService, ModelState, ModelStatus
from agent_core.kernels.model_definition import service_data
from agent_core.kernels.published import ServicePlace

Tell = Callable[[ModelState], None]
"""Tells whoever watches how a model is."""

_ENDING: Final = 35.0
_NOT_THERE: Final = "its runner has not told yet"
_SETTLED: Final = frozenset(ModelStatus) - {ModelStatus.STARTING}


class KernelModels:
    """Asks the runner for every model whenever one connects, and keeps what it tells.

    Args:
        kernel_id: The kernel.
        places: What it publishes, and where that listens.
        send: Sends a message to the runner.
    """

    def __init__(
        self,
        kernel_id: str,
        places: Sequence[ServicePlace],
        send: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._kernel_id = kernel_id
        self._places = {place.name: place for place in places}
        self._send = send
        self._models: dict[str, ModelService] = {}
        self._states: dict[str, ModelState] = {}
        self._asked: dict[str, str] = {}
        self._tell: Tell = _nobody
        self._waiting: dict[str, list[_Waiting]] = {}

    def serve(self, models: Sequence[ModelService], tell: Tell) -> None:
        """Take over what is to be served; it is asked for at `greet`."""
        self._tell = tell
        self._models = {model.name: model for model in models if model.name in self._places}
        self._states = {
            name: ModelState(name, ModelStatus.STARTING, _NOT_THERE) for name in self._models
        }

    def __contains__(self, name: object) -> bool:
        """Whether a service is a model."""
        return name in self._models

    def state(self, name: str) -> ModelState | None:
        """Say how a model is, as far as its runner has told; None when there is none."""
        return self._states.get(name)

    def greet(self) -> None:
        """Ask a runner that has connected for every model; it starts those that it does not run."""
        with contextlib.suppress(RunnerUnavailable):
            for model in self._models.values():
                self._ask(self._request(model))

    def _ask(self, message: Mapping[str, Any]) -> None:
        self._asked[message["name"]] = message["run_id"]
        self._send(message)

    def said(self, run_id: str, state: ModelState) -> None:
        """Take what the runner tells of a model since it was asked last.

        What it sends again after a connection was lost is of before that, and may be long over.
        """
        if state.name not in self._models or run_id != self._asked.get(state.name):
            return
        before = self._states.get(state.name)
        self._states[state.name] = state
        for waiting in self._waiting.get(state.name, ()):
            waiting.hear(state)
        if state != before:
            self._tell(state)

    async def start(self, name: str, seconds: float) -> ModelState:
        """Start a model anew where it has failed or was stopped, and wait for how it comes out.

        Returns:
            How it is: well or, after so many seconds, on its way still.

        Raises:
            ServiceFailed: when it cannot be started, or does not answer as it should.
            RunnerUnavailable: when the runner is not there.
        """
        message = {**self._request(self._models[name]), "anew": True}
        state = await self._until(message, seconds, _SETTLED)
        if state.status in (ModelStatus.HEALTHY, ModelStatus.STARTING):
            return state
        raise ServiceFailed(
            f"model {name!r} of kernel {self._kernel_id} is {state.status}: {state.message}",
            hint=f"`agentctl kernels logs {self._kernel_id}` has what it said.",
            details={"exit_code": state.exit_code, "because": state.status.value},
        )

    async def stop(self, name: str) -> None:
        """End a model; succeeds when it does not run.

        Raises:
            RunnerUnavailable: when the runner is not there, or does not tell of its end in time.
        """
        message = {"type": "stop-model", "name": name, "run_id": _new_id()}
        state = await self._until(message, _ENDING, {ModelStatus.STOPPED})
        if state.status is not ModelStatus.STOPPED:
            raise RunnerUnavailable(
                f"the runner of kernel {self._kernel_id} did not tell the end of model {name!r}"
            )

    async def _until(
        self, message: Mapping[str, Any], seconds: float, wanted: Collection[ModelStatus]
    ) -> ModelState:
        """Ask something and wait until the model is as it should be then, or the time is over."""
        name, waiting = message["name"], _Waiting(wanted)
        everybody = self._waiting.setdefault(name, [])
        everybody.append(waiting)
        try:
            self._ask(message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiting.answer
        finally:
            everybody.remove(waiting)
            waiting.answer.cancel()
        return self._states[name]

    def _request(self, model: ModelService) -> dict[str, Any]:
        place = self._places[model.name]
        return {
            "type": "start-model",
            "run_id": _new_id(),
            "name": model.name,
            "host": place.host,
            "port": place.ports[0],
            "service": {**service_data(model), "model_path": model.model_path},
        }


class _Waiting:
    """Somebody who waits for one of some statuses."""

    def __init__(self, wanted: Collection[ModelStatus]) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted = wanted

    def hear(self, state: ModelState) -> None:
        """See whether this ends the waiting."""
        if state.status in self._wanted and not self.answer.done():
            self.answer.set_result(None)


def _new_id() -> str:
    return f"model-{uuid.uuid4().hex[:12]}"


def _nobody(_: ModelState) -> None:
    return None
