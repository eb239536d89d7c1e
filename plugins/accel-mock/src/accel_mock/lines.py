r"""On which line of a TOML text each value stands: read only when there is a fault to point at.

The standard library's parser keeps no positions. The text has passed that parser already, so this
scanner need not refuse anything.

    lines = Lines('[[devices]]\nmother_uuid = "d01"\n')
    lines.of(("devices", 0, "mother_uuid"))  # 2
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from accel_mock.model import Place

_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|"
    r"\#[^\n]*|[\[\]{}=.,\n]|[^\s\"'\#\[\]{}=.,]+|[^\S\n]+",
    re.DOTALL,
)
_ENDS: Final = frozenset(",]}\n")


class Lines:
    """The lines of one text."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), ("\n", 0)]
        self._next = 0
        self._lines: dict[Place, int] = {}
        self._arrays: dict[Place, int] = {}
        self._read_all()

    def of(self, place: Place) -> int:
        """Find the line of a value, or of the nearest thing around it that is written."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return 1

    def _read_all(self) -> None:
        table: Place = ()
        while self._next < len(self._tokens):
            piece, _ = self._tokens[self._next]
            if piece == "\n":
                self._next += 1
            elif piece == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Place:
        line, is_array = self._tokens[self._next][1], self._tokens[self._next + 1][0] == "["
        self._next += 1 + is_array
        place: Place = ()
        for key in self._key("]"):
            place = self._within((*place, key))
        self._next += is_array
        if is_array:
            array = place[:-1] if isinstance(place[-1], int) else place
            self._arrays[array] = self._arrays.get(array, -1) + 1
            self._note(array, line)
            place = (*array, self._arrays[array])
        self._note(place, line)
        return place

    def _within(self, place: Place) -> Place:
        return (*place, self._arrays[place]) if place in self._arrays else place

    def _pair(self, table: Place) -> None:
        line = self._tokens[self._next][1]
        place = (*table, *self._key("="))
        for length in range(len(table) + 1, len(place) + 1):
            self._note(place[:length], line)
        self._value(place)

    def _value(self, place: Place) -> None:
        self._skip_blank()
        piece, line = self._tokens[self._next]
        self._note(place, line)
        if piece in "[{":
            self._next += 1
            self._members(place, "]" if piece == "[" else "}")
            return
        while self._tokens[self._next][0] not in _ENDS:
            self._next += 1

    def _members(self, place: Place, end: str) -> None:
        number = 0
        while True:
            self._skip_blank()
            if self._tokens[self._next][0] == end:
                self._next += 1
                return
            if self._tokens[self._next][0] == ",":
                self._next += 1
            elif end == "}":
                self._pair(place)
            else:
                self._value((*place, number))
                number += 1

    def _key(self, end: str) -> list[str]:
        parts = []
        while (piece := self._tokens[self._next][0]) != end:
            parts += [] if piece == "." else [piece[1:-1] if piece[0] in "\"'" else piece]
            self._next += 1
        self._next += 1
        return parts

    def _skip_blank(self) -> None:
        while self._tokens[self._next] != ("\n", 0) and self._tokens[self._next][0] == "\n":
            self._next += 1

    def _note(self, place: Place, line: int) -> None:
        self._lines.setdefault(place, line)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        piece = match.group()
        if piece == "\n" or not (piece.isspace() or piece.startswith("#")):
            yield piece, line
        line += piece.count("\n")
