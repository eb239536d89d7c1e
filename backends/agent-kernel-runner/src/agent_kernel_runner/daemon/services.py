"""The services of a kernel: what the agent asks of them, and what it is answered."""

from __future__ import annotations

from agent_kernel_runner.daemon.requests import BadRequest, ServiceStart, parse_service
from agent_kernel_runner.daemon.service import STOPPED, Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agent_kernel_runner.daemon.loop import Loop
    from agent_kernel_runner.daemon.outbox import Outbox
    from agent_kernel_runner.daemon.process import Processes
    from agent_kernel_runner.daemon.recipe import Refusal
    from agent_kernel_runner.daemon.settings import Settings

MOST = 128
"""Services that are remembered; more are not started."""


class Services:
    """All services that were ever asked for, by name.

    Args:
        loop: The event loop.
        outbox: Takes the answers.
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
        self._services: dict[str, Service] = {}

    def handle(self, message: Mapping[str, Any]) -> None:
        """Do what one message asks; what is malformed is refused."""
        try:
            self._do(message)
        except BadRequest as exc:
            told = {"state": STOPPED, "exit_code": None, "error": "invalid", "log": ""}
            run_id, name = str(message.get("run_id")), str(message.get("name"))
            self._outbox.add("service-state", run_id=run_id, name=name, message=str(exc), **told)

    def _do(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "start-service":
            request = ServiceStart(message)
            self._service(request.name).start(request)
        elif kind == "shutdown-service":
            self._service(parse_service(message)).stop(str(message.get("run_id")))
        else:
            self._list(str(message.get("run_id")))

    def _service(self, name: str) -> Service:
        service = self._services.get(name)
        if service is None:
            service = Service(self._loop, self._processes, self._settings, name, self._answer)
            if len(self._services) < MOST:
                self._services[name] = service
        return service

    def _list(self, run_id: str) -> None:
        states = [
            {"name": each.name, "state": each.state, "exit_code": each.exit_code}
            for each in self._services.values()
        ]
        self._outbox.add("services", run_id=run_id, services=states)

    def _answer(self, run_id: str, service: Service, refusal: Refusal | None) -> None:
        told = {"state": service.state, "exit_code": service.exit_code}
        if refusal is not None:
            told |= {"error": refusal.code, "message": refusal.message, "log": refusal.log}
        self._outbox.add("service-state", run_id=run_id, name=service.name, **told)
