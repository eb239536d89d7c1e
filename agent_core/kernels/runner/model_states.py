"""Reading what a runner tells of a model: hostile input, bounded before anybody sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.models import ModelState, ModelStatus
from agent_core.kernels.runner import fields

_LONGEST: Final = 32 << 10
_WORDS: Final = 1000


def read_model_state(message: Mapping[str, Any]) -> ModelState:
    """Check the state of a model; of a long reason the beginning is kept.

    Raises:
        MalformedFrame: when a field is missing, of the wrong type, or beyond its bound.
    """
    code = None if message.get("exit_code") is None else fields.integer(message, "exit_code")
    return ModelState(
        name=fields.text(message, "name", 64),
        status=ModelStatus(fields.one_of(message, "status", frozenset(ModelStatus))),
        message=fields.text(message, "message", _LONGEST)[:_WORDS],
        restarts=fields.count(message, "restarts"),
        exit_code=code,
    )
