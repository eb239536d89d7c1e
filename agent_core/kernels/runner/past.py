"""What a runner says of the runs that it has been asked for: hostile input like all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.errors import MalformedFrame
from agent_core.contracts.runner import RunRecord, RunStatus
from agent_core.kernels.runner import fields

_MOST: Final = 64
_LONGEST_CODE: Final = 1024
_LATEST: Final = 1e11


def read_history(message: Mapping[str, Any]) -> tuple[RunRecord, ...]:
    """Read the runs that a runner remembers.

    Raises:
        MalformedFrame: when they are too many, or one is none.
    """
    rows = message.get("runs")
    if not isinstance(rows, list) or len(rows) > _MOST:
        raise MalformedFrame(f"runs: not a list of at most {_MOST}")
    if not all(isinstance(row, dict) for row in rows):
        raise MalformedFrame("runs: not a list of tables")
    return tuple(map(_record, rows))


def _record(row: Mapping[str, Any]) -> RunRecord:
    ended = row.get("status") is not None
    code = None if row.get("exit_code") is None else fields.integer(row, "exit_code")
    status = fields.one_of(row, "status", frozenset(RunStatus)) if ended else None
    return RunRecord(
        fields.text(row, "run_id", 64),
        fields.text(row, "mode", 64),
        fields.text(row, "code", _LONGEST_CODE),
        started_at=_moment(row, "started_at"),
        ended_at=_moment(row, "ended_at"),
        status=None if status is None else RunStatus(status),
        exit_code=code,
    )


def _moment(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise MalformedFrame(f"{name}: not a time in seconds since the epoch")
    return float(value)
