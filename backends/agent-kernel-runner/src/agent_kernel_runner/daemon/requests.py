"""What the agent asks, checked before anything relies on it."""

from __future__ import annotations

from agent_kernel_runner.daemon.executor import QUERY, Run
from agent_kernel_runner.daemon.results import is_run_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_LONGEST_TIMEOUT = 1e9


class BadRequest(Exception):
    """Raised when a message lacks a field, or a field is not what the protocol says."""


def parse_run(message: Mapping[str, Any]) -> Run:
    """Read an ``execute``.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    run_id, mode = message.get("run_id"), message.get("mode", QUERY)
    if not is_run_id(run_id):
        raise BadRequest("run_id is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if not isinstance(mode, str):
        raise BadRequest("mode is no text")
    return Run(
        str(run_id),
        mode,
        _text(message, "code"),
        _options(message.get("options")),
        _timeout(message.get("timeout")),
    )


def parse_completion(message: Mapping[str, Any]) -> tuple[str, str, int]:
    """Read a ``complete``: the request's id, the code, the cursor.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    cursor = message.get("cursor")
    if not isinstance(cursor, int) or cursor < 0:
        raise BadRequest("cursor is no position")
    return _text(message, "run_id"), _text(message, "code"), cursor


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{key} is no text")
    return value


def _options(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadRequest("options is no object of texts")
    return value


def _timeout(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest("timeout is no number of seconds")
    if not 0 < value < _LONGEST_TIMEOUT:
        raise BadRequest("timeout is out of range")
    return float(value)
