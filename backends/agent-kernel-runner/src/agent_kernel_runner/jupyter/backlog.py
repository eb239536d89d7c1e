"""The backlog: what a kernel has said and the agent has not had room for yet.

A kernel does not wait for whoever reads its outputs, so what is too much has to be kept or dropped
here: it is kept up to a bound, then dropped, and how much is told.
"""

from __future__ import annotations

from collections import deque

from agent_kernel_runner.jupyter.outputs import Rich, Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.executor import Report

BOUND = 16 << 20
"""Characters that are kept."""

_OVERHEAD = 256
_PIECE = 32 << 10


class Backlog:
    """Hands outputs on in their order, as far as there is room.

    Args:
        room: Returns how many bytes may be handed on now.
        report: Takes them.
    """

    def __init__(self, room: Callable[[], int], report: Report) -> None:
        self._room = room
        self._report = report
        self._items: deque[Text | Rich] = deque()
        self._size = 0
        self._dropped = 0
        self._then: Callable[[], None] | None = None
        self._pumping = False

    def add(self, item: Text | Rich) -> None:
        """Take one output."""
        for piece in _pieces(item):
            size = _size(piece)
            if self._dropped or self._size + size > BOUND:
                # What follows a gap is dropped too, so that the gap is told where it is.
                self._dropped += size - _OVERHEAD
            else:
                self._items.append(piece)
                self._size += size
        self.pump()

    def pump(self) -> None:
        """Hand on what there is room for; ask again when there is more."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._items and self._room() > 0:
                self._hand_on(self._items.popleft())
        finally:
            self._pumping = False
        if not self._items:
            self._emptied()

    def _hand_on(self, item: Text | Rich) -> None:
        self._size -= _size(item)
        if isinstance(item, Text):
            self._report.write(item.stream, item.text)
        else:
            self._report.rich(item.mime, item.data, item.alt)

    def _emptied(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._report.truncated(dropped)
        if self._then is not None:
            then, self._then = self._then, None
            then()

    def drop(self) -> None:
        """Drop everything, and tell how much it was."""
        self._dropped += self._size - _OVERHEAD * len(self._items)
        self._size = 0
        self._items.clear()
        self._emptied()

    def settle(self, then: Callable[[], None]) -> None:
        """Call once all has been handed on."""
        self._then = then
        self.pump()


def _pieces(item: Text | Rich) -> list[Text] | list[Rich]:
    """Cut long text, so that there need be room for a piece of it only."""
    if isinstance(item, Rich):
        return [item]
    starts = range(0, len(item.text), _PIECE)
    return [Text(item.stream, item.text[start : start + _PIECE]) for start in starts]


def _size(item: Text | Rich) -> int:
    text = item.text if isinstance(item, Text) else item.data + item.alt
    return len(text) + _OVERHEAD
