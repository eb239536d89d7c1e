"""The types of a contract's methods, by which arguments and replies cross to a worker and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature as parameters_of
from typing import Any, get_type_hints

from agent_core.contracts.plain import from_plain
from agent_core.host.loader import CLASSES


@dataclass(frozen=True, slots=True)
class Signature:
    """The declared types of one method's arguments, in order, and of its reply."""

    arguments: tuple[Any, ...]
    reply: Any

    def read_arguments(self, plain: Sequence[Any]) -> list[Any]:
        """Rebuild the arguments of a call.

        Raises:
            TypeError: when they are not what the contract declares.
            ValueError: when one is refused by its class.
        """
        if len(plain) > len(self.arguments):
            raise TypeError(f"{len(plain)} arguments, and the contract has {len(self.arguments)}")
        return [from_plain(kind, each) for kind, each in zip(self.arguments, plain, strict=False)]


@cache
def signature(kind: str, method: str) -> Signature:
    """Look a method of a kind's contract up.

    Raises:
        LookupError: when the contract has no such method.
    """
    function = getattr(CLASSES[kind], method, None)
    if function is None or method.startswith("_"):
        raise LookupError(f"the contract of {kind} has no method {method!r}")
    hints = get_type_hints(function)
    names = [name for name in parameters_of(function).parameters if name != "self"]
    return Signature(tuple(hints[name] for name in names), hints["return"])
