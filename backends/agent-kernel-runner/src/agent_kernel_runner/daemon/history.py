"""The history of runs: what this kernel was asked to run, and what became of it."""

from __future__ import annotations

import time
from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent_kernel_runner.daemon.executor import Run

MOST = 64
"""Runs that are remembered, the last ones."""

EXCERPT = 60
"""Characters of their code: all of them must go into one frame."""


class History:
    """The last runs in the order in which they were asked for."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def accepted(self, run: Run) -> None:
        """Remember a run that waits, and forget the oldest."""
        code = run.code or run.options.get("exec", "")
        self._runs[run.run_id] = {
            "run_id": run.run_id,
            "mode": run.mode,
            "code": code[:EXCERPT],
            "started_at": None,
            "ended_at": None,
            "status": None,
            "exit_code": None,
        }
        if len(self._runs) > MOST:
            self._runs.popitem(last=False)

    def began(self, run: Run) -> None:
        """Note that it runs."""
        self._note(run, started_at=round(time.time(), 3))

    def ended(self, run: Run, status: str, exit_code: int | None) -> None:
        """Note how it ended."""
        self._note(run, ended_at=round(time.time(), 3), status=status, exit_code=exit_code)

    def _note(self, run: Run, **values: object) -> None:
        if run.run_id in self._runs:
            self._runs[run.run_id].update(values)

    def rows(self) -> list[dict[str, Any]]:
        """List them, the oldest first."""
        return list(self._runs.values())
