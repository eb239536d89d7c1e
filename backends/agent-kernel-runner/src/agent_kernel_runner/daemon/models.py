"""The models of a kernel: what the agent asks of them, and what it is told."""

from __future__ import annotations

from agent_kernel_runner.daemon.model import FAILED, STOPPED, Model
from agent_kernel_runner.daemon.model_requests import ModelStart
from agent_kernel_runner.daemon.requests import BadRequest, parse_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent_kernel_runner.daemon.loop import Loop
    from agent_kernel_runner.daemon.outbox import Outbox
    from agent_kernel_runner.daemon.process import Processes
    from agent_kernel_runner.daemon.settings import Settings

MOST = 64
"""Models that are served; more are refused."""


class Models:
    """All models that were ever asked for, by name.

    Args:
        loop: The event loop.
        outbox: Takes what is told of them.
        processes: Starts them.
        settings: Of the kernel.
    """

    def __init__(
        self, loop: Loop, outbox: Outbox, processes: Processes, settings: Settings
    ) -> None:
        self._loop = loop
        self._outbox = outbox
        self._processes = processes
        self._settings = settings
        self._models: dict[str, Model] = {}

    def handle(self, message: Mapping[str, Any]) -> None:
        """Do what one message asks; what is malformed is told as a failure."""
        try:
            if message["type"] == "start-model":
                self._start(ModelStart(message))
            else:
                self._stop(parse_service(message), str(message.get("run_id")))
        except BadRequest as exc:
            run_id, name = str(message.get("run_id")), str(message.get("name"))
            self._say(run_id, name, FAILED, f"what was asked is malformed: {exc}")

    def _start(self, request: ModelStart) -> None:
        model = self._models.get(request.name)
        if model is not None:
            model.start(request)
        elif len(self._models) >= MOST:
            self._say(request.run_id, request.name, FAILED, f"{MOST} models are the most")
        else:
            model = Model(self._loop, self._processes, self._settings, request, self._tell)
            self._models[request.name] = model
            model.start(request)

    def _stop(self, name: str, run_id: str) -> None:
        model = self._models.get(name)
        if model is None:
            self._say(run_id, name, STOPPED, "")
        else:
            model.stop(run_id)

    def _tell(self, model: Model) -> None:
        # Who is away is told how it is then: it asks when it comes again.
        if self._outbox.connected:
            told = {"restarts": model.restarts, "exit_code": model.exit_code}
            self._say(model.run_id, model.name, model.status, model.message, **told)

    def _say(self, run_id: str, name: str, status: str, message: str, **told: int | None) -> None:
        told = told or {"restarts": 0, "exit_code": None}
        self._outbox.add(
            "model-state", run_id=run_id, name=name, status=status, message=message, **told
        )
