"""What runs one run at a time: the seam between the queue and the ways of running code."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol
else:
    Protocol = object

QUERY = "query"
BATCH = "batch"

NORMAL = "normal"
"""The code came to its own end."""
INTERRUPTED = "interrupted"
"""An interrupt ended the code."""
DIED = "died"
"""The interpreter ended under the code."""


class Run:
    """One run, as the agent asked for it."""

    __slots__ = ("code", "mode", "options", "run_id", "timeout")

    def __init__(
        self,
        run_id: str,
        mode: str,
        code: str,
        options: Mapping[str, str],
        timeout: float | None,
    ) -> None:
        self.run_id = run_id
        self.mode = mode
        self.code = code
        self.options = options
        self.timeout = timeout


class Report(Protocol):
    """What an executor tells of its run. `ended` comes last and once."""

    def say(self, text: str) -> None:
        """Tell the user something, on stderr."""

    def write(self, stream: str, text: str) -> None:
        """Pass on output that came by another way than the pipes."""

    def rich(self, mime: str, data: str, alt: str) -> None:
        """Pass on an output that is no text, with text for whoever cannot show it."""

    def truncated(self, size: int) -> None:
        """Tell that so much output was dropped here."""

    def step(self, step: str, exit_code: int) -> None:
        """Tell that a step of a batch has ended."""

    def waiting(self, prompt: str, *, password: bool) -> None:
        """Tell that the code waits for input."""

    def ended(self, exit_code: int | None, cause: str) -> None:
        """Tell that the run has ended, with its exit code and why."""

    def completed(self, request_id: str, matches: Sequence[str]) -> None:
        """Answer a completion."""


class Executor:
    """Runs one run at a time. The queue calls `start` only after the last run has ended."""

    def start(self, run: Run) -> None:
        """Start a run; everything else is told to the report."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Interrupt the current run, as a person at a terminal would."""
        raise NotImplementedError

    def urge(self) -> None:
        """Ask once more and more firmly, half way between `interrupt` and `kill`."""

    def kill(self) -> None:
        """Kill the current run with everything in its process group."""
        raise NotImplementedError

    def answer(self, text: str) -> None:
        """Give the input that the current run waits for; ignored when it waits for none."""

    def resume(self) -> None:
        """Pass on more output: there may be room; what writes to the pipes need not care."""

    def complete(self, request_id: str, code: str, cursor: int, report: Report) -> None:
        """Find completions; by default there are none."""
        report.completed(request_id, [])


def exit_code(status: int) -> int:
    """Turn an exit status, negative for a signal, into what a shell would call it."""
    return 128 - status if status < 0 else status
