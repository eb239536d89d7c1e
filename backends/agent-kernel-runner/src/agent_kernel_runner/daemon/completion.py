"""A completion that was asked of an interpreter and must be answered in time."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop


DEADLINE = 2.0
"""Seconds after which an interpreter that is still looking for completions is interrupted."""

_LAST_RESORT = 2.0
_MAX_TEXT = 64 << 10


class Completion:
    """One request, answered exactly once.

    Args:
        loop: The event loop.
        request_id: Whose answer it will be.
        answered: Called with the id and the matches.
        overdue: Called with False when the deadline passes, with True when that did not help.
    """

    def __init__(
        self,
        loop: Loop,
        request_id: str,
        answered: Callable[[str, list[str]], None],
        overdue: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._request_id = request_id
        self._answered = answered
        self._overdue = overdue
        self._timer = loop.call_later(DEADLINE, self._late)

    def _late(self) -> None:
        self._timer = self._loop.call_later(_LAST_RESORT, lambda: self._overdue(True))
        self._overdue(False)

    def fail(self) -> None:
        """Answer that there are none."""
        self.answer([])

    def answer(self, matches: object) -> None:
        """Answer with what is text among the matches, as far as it fits a message."""
        self._timer.cancel()
        self._answered(self._request_id, _fitting(matches if isinstance(matches, list) else []))


def _fitting(matches: list[object]) -> list[str]:
    names = [match for match in matches if isinstance(match, str)]
    room = _MAX_TEXT
    for number, name in enumerate(names):
        room -= len(name) + 8
        if room < 0:
            return names[:number]
    return names
