"""Outputs that come in pieces, put together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent_core.wire import models as m

BOUND: Final = 16 << 20
"""Characters of the longest output that is put together; a longer one counts as truncated."""


class Pieces:
    """Puts together the media and HTML of one run."""

    def __init__(self) -> None:
        self._first: m.OutputItem | None = None
        self._parts: list[str] = []
        self._size = 0

    def add(self, item: m.OutputItem) -> Iterator[m.OutputItem]:
        """Take one item; yield those that are whole, in their order."""
        if item.kind not in {"media", "html"}:
            yield from self.cut_short()
            yield item
            return
        if self._first is not None and (self._first.kind, self._first.mime) != (
            item.kind,
            item.mime,
        ):
            yield from self.cut_short()
        self._take(item)
        if not item.more:
            yield self._whole()

    def _take(self, item: m.OutputItem) -> None:
        self._first = self._first or item
        piece = (item.data if item.kind == "media" else item.text) or ""
        self._size += len(piece)
        if self._size > BOUND:
            self._parts.clear()
        else:
            self._parts.append(piece)

    def _whole(self) -> m.OutputItem:
        first, content, size = self._first, "".join(self._parts), self._size
        self._first, self._parts, self._size = None, [], 0
        if first is None or size > BOUND:
            return m.OutputItem(kind="truncated", bytes=size)
        name = "data" if first.kind == "media" else "text"
        return first.model_copy(update={name: content, "more": None})

    def cut_short(self) -> Iterator[m.OutputItem]:
        """Count as truncated what has no end; there is nothing when all was whole."""
        if self._first is not None:
            size = self._size
            self._first, self._parts, self._size = None, [], 0
            yield m.OutputItem(kind="truncated", bytes=size)
