"""From a request to a call of a service: the method looked up, the role and parameters checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agent_core.contracts.errors import InvalidArgument, Unauthorized, bullet_list
from agent_core.server.handlers import handlers
from agent_core.server.services import Code, Content, Kernels, Node
from agent_core.wire.methods import METHODS, Method
from agent_core.wire.roles import Role


class Dispatcher:
    """Knows what each method does; knows nothing of sockets, clients or tasks."""

    def __init__(self, node: Node, kernels: Kernels, code: Code, content: Content) -> None:
        self._handlers = handlers(node, kernels, code, content)
        missing = METHODS.keys() ^ self._handlers.keys()
        if missing:
            raise NotImplementedError(f"methods and handlers differ in {sorted(missing)}")

    def dispatch(self, method: Method[Any], params: Mapping[str, Any], role: Role) -> object:
        """Begin a call: returns its result, a coroutine of it, or an iterator of items.

        Raises:
            Unauthorized: when the role does not admit the method.
            InvalidArgument: when the parameters are wrong, with every fault.
            AgentError: whatever the service raised.
        """
        if role < method.role:
            raise unauthorized(method, role)
        try:
            model = method.params.model_validate(params, strict=True)
        except ValidationError as exc:
            raise _invalid(method, exc) from exc
        return self._handlers[method.name](model)


def unauthorized(method: Method[Any], role: Role) -> Unauthorized:
    """Say which role a method needs, and which its caller has."""
    needs, has = method.role.label, role.label
    return Unauthorized(
        f"{method.name} needs the role {needs}, and this key has {has}",
        hint=f"Use a key with that role; `agentctl keys add NAME --role {needs}` gives one.",
        details={"needs": needs, "has": has},
    )


def _invalid(method: Method[Any], error: ValidationError) -> InvalidArgument:
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {_what(method, fault)}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return InvalidArgument(
        f"{method.name}: {bullet_list(faults)}",
        hint=f"It takes {_names(method)}.",
        details={"method": method.name, "faults": faults},
    )


def _what(method: Method[Any], fault: Mapping[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter; known are {_names(method)}"
    message = str(fault["msg"])
    return message[:1].lower() + message[1:]


def _names(method: Method[Any]) -> str:
    return ", ".join(method.params.model_fields) or "no parameters"
