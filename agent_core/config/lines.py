"""On which line of a TOML text each key stands: read only when there is something to point at.

The standard library's parser keeps no positions. The text has passed that parser already, so this
scanner needs to tell only statements, strings and brackets apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

KeyPath = tuple[str, ...]

_PIECE: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|"
    r"\#[^\n]*|[\[\]{}=.,\n]|[^\s\"'\#\[\]{}=.,]+|[^\S\n]+",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map every table and key to the number of the line where it first stands."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, pieces in _statements(text):
        if pieces[0] == "[":
            table = _key(pieces[: len(pieces) - 1 - pieces[::-1].index("]")])
            path = table
        else:
            path = table + _key(pieces[: pieces.index("=")]) if "=" in pieces else table
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Look a key up, or the nearest of its parents that stands in the text."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    number, start, depth, statement = 1, 1, 0, list[str]()
    for match in _PIECE.finditer(text):
        piece = match.group()
        if piece == "\n" and not depth:
            if statement:
                yield start, statement
            statement = []
        elif not piece.isspace() and not piece.startswith("#"):
            start = start if statement else number
            statement.append(piece)
            depth += (piece in "[{") - (piece in "]}")
        number += piece.count("\n")
    if statement:
        yield start, statement


def _key(pieces: list[str]) -> KeyPath:
    return tuple(_unquoted(piece) for piece in pieces if piece not in "[].")


def _unquoted(piece: str) -> str:
    return piece[1:-1] if piece[0] in "\"'" else piece
