"""What can be asked of a simulated runtime beyond the contract: bad days, made while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agent_backend_dummy.faults import Fault, read_fault
from agent_core.contracts.errors import InvalidArgument

if TYPE_CHECKING:
    from agent_backend_dummy.backend import DummyBackend

COMMANDS: Final[Mapping[str, str]] = {
    "add-fault": "Add a fault; its keys are those of a [[fault]] table.",
    "list-faults": "List the faults with how often each has struck.",
    "clear-faults": "Take every fault away.",
    "exit-container": "End a running container: container, code or signal or oom, after seconds.",
}
"""Each command, and what it does."""


def run_command(backend: DummyBackend, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run one command.

    Raises:
        InvalidArgument: when there is none of that name, or a parameter is wrong.
        NotFound: when there is no such container.
        WrongState: when it does not run.
    """
    faults = backend.day.faults.faults
    if name == "add-fault":
        faults.append(read_fault(params))
    elif name == "clear-faults":
        faults.clear()
    elif name == "exit-container":
        return _exit(backend, params)
    elif name != "list-faults":
        raise InvalidArgument(
            f"there is no command {name!r}", hint=f"Commands: {', '.join(COMMANDS)}."
        )
    return {"faults": backend.day.described()}


def _exit(backend: DummyBackend, params: Mapping[str, Any]) -> dict[str, Any]:
    known = {"container", "code", "signal", "oom", "seconds"}
    if unknown := sorted(params.keys() - known):
        raise InvalidArgument(
            f"{', '.join(unknown)}: unknown; known are {', '.join(sorted(known))}"
        )
    name = params.get("container")
    if not isinstance(name, str):
        raise InvalidArgument("container: the name of a container is required")
    table = {key: params[key] for key in ("code", "signal", "seconds") if key in params}
    fault: Fault = read_fault(
        {"step": "run", "action": "oom" if params.get("oom") else "exit", **table}
    )
    seconds = 0.0 if fault.seconds is None else fault.seconds[0]
    backend.engine.doom(_container(backend, name), seconds, fault.ending())
    return {"container": name, "seconds": seconds}


def _container(backend: DummyBackend, name: str) -> str:
    """Find a container by its name, or by its kernel's id."""
    if name in backend.engine.containers:
        return name
    of_kernel = [c.name for c in backend.engine.containers.values() if c.kernel == name]
    return of_kernel[-1] if of_kernel else name
