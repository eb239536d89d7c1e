"""The services of one kernel: what it publishes, and what its runner has started of that."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    InvalidArgument,
    NotFound,
    RunnerUnavailable,
    ServiceFailed,
    Unsupported,
)
from agent_core.contracts.models import RUNNING
from agent_core.contracts.runner import RunStatus, ServiceState
from agent_core.kernels.published import ServicePlace
from agent_core.kernels.runner.kernel_models import KernelModels
from agent_core.kernels.runner.messages import Report, ServiceSaid
from agent_core.wire.content import SERVICE_READY

Ask = Callable[[Mapping[str, Any], float], Awaitable[Report]]
"""Sends a message to the runner, and waits so many seconds for what it says to that."""

TIMEOUT: Final = "timeout"
"""The option that says how many seconds a service may take to answer."""

_LONGEST: Final = 600.0
_ENDING: Final = 35.0
_LISTING: Final = 5.0
_HINT: Final = "`agentctl services list KERNEL` lists what it publishes."
_DEFINE: Final = (
    "Put its program or a definition of it into the image, or start it by code of your own."
)
_ERRORS: Final[Mapping[str, type[AgentError]]] = {
    "invalid": InvalidArgument,
    "conflict": Conflict,
    "unsupported": Unsupported,
}


class KernelServices:
    """Lists, starts and ends the services of one kernel through its runner.

    Args:
        kernel_id: The kernel.
        places: What it publishes, and where that listens.
        ask: Asks its runner.
        models: Those of its services that are models.
    """

    def __init__(
        self, kernel_id: str, places: Sequence[ServicePlace], ask: Ask, models: KernelModels
    ) -> None:
        self._kernel_id = kernel_id
        self._places = {place.name: place for place in places}
        self._ask = ask
        self._models = models

    async def list(self) -> list[ServiceState]:
        """List all that is published, started or not; asks nobody where nothing is."""
        said = {}
        if any(name not in self._models for name in self._places):
            report = await self._answered({"type": "services"}, _LISTING, "its list of services")
            said = {each.name: each for each in report.services or ()}
        unasked = ServiceSaid("", "stopped")
        return [
            self._of_model(place) or _state(place, said.get(name, unasked))
            for name, place in self._places.items()
        ]

    def _of_model(self, place: ServicePlace) -> ServiceState | None:
        model = self._models.state(place.name)
        if model is None:
            return None
        running = model.status in RUNNING
        code = model.exit_code
        return ServiceState(place.name, place.protocol, place.ports, running, code, model)

    async def start(self, name: str, options: Mapping[str, str]) -> ServiceState:
        """Start a service and wait until it answers; one that runs is left as it is.

        Raises:
            NotFound: when the kernel publishes no such service, or nothing says how to start it.
            InvalidArgument: when it has no such option.
            Conflict: when something else listens on its port.
            ServiceFailed: when it ended or did not answer in time.
            RunnerUnavailable: when the runner is not there.
        """
        place = self._place(name)
        seconds = _read_timeout(options)
        if name in self._models:
            return await self._start_model(place, seconds, options)
        message = {
            "type": "start-service",
            "name": name,
            "protocol": place.protocol,
            "host": place.host,
            "ports": list(place.ports),
            "options": {key: value for key, value in options.items() if key != TIMEOUT},
            "timeout": seconds,
        }
        said = await self._said(message, seconds, name)
        return _state(place, said)

    async def shutdown(self, name: str) -> None:
        """End a service; succeeds when it does not run.

        Raises:
            NotFound: when the kernel publishes no such service.
            Unsupported: when it was not started through its runner.
        """
        self._place(name)
        if name in self._models:
            await self._models.stop(name)
            return
        await self._said({"type": "shutdown-service", "name": name}, _ENDING, name)

    async def _start_model(
        self, place: ServicePlace, seconds: float, options: Mapping[str, str]
    ) -> ServiceState:
        if unknown := sorted(options.keys() - {TIMEOUT}):
            raise InvalidArgument(f"model {place.name!r} takes no option {', '.join(unknown)}")
        await self._models.start(place.name, seconds)
        return self._of_model(place) or ServiceState(place.name, place.protocol, place.ports)

    def _place(self, name: str) -> ServicePlace:
        place = self._places.get(name)
        if place is None:
            raise NotFound(f"kernel {self._kernel_id} publishes no service {name!r}", hint=_HINT)
        return place

    async def _said(self, message: Mapping[str, Any], seconds: float, name: str) -> ServiceSaid:
        report = await self._answered(message, seconds, f"the state of service {name!r}")
        [said] = report.services or (ServiceSaid(name, "stopped"),)
        if said.error:
            raise self._refusal(name, said)
        return said

    async def _answered(self, message: Mapping[str, Any], seconds: float, what: str) -> Report:
        report = await self._ask(message, seconds)
        if report.services:
            return report
        if report.services is not None and message["type"] == "services":
            return report
        how = "did not tell" if report.status is RunStatus.TIMEOUT else "ended before it told"
        raise RunnerUnavailable(f"the runner of kernel {self._kernel_id} {how} {what}")

    def _refusal(self, name: str, said: ServiceSaid) -> AgentError:
        message = f"service {name!r} of kernel {self._kernel_id}: {said.message}"
        if said.error == "not-found":
            return NotFound(message, hint=_DEFINE)
        if said.error in _ERRORS:
            return _ERRORS[said.error](message)
        details = {"exit_code": said.exit_code, "log": said.log, "because": said.error}
        return ServiceFailed(message, hint=_last_words(said.log), details=details)


def _state(place: ServicePlace, said: ServiceSaid) -> ServiceState:
    running = said.state == "running"
    return ServiceState(place.name, place.protocol, place.ports, running, said.exit_code)


def _last_words(log: str) -> str | None:
    """Show the last lines that a service said, where a person looks for what to do."""
    return f"It said at last:\n{log.rstrip()}" if log.strip() else None


def _read_timeout(options: Mapping[str, str]) -> float:
    if TIMEOUT not in options:
        return SERVICE_READY
    try:
        seconds = float(options[TIMEOUT])
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST:
        raise InvalidArgument(
            f"option {TIMEOUT}: {options[TIMEOUT]!r} is not a number of seconds up to {_LONGEST:g}"
        )
    return seconds
