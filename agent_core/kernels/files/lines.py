"""Text of ``KEY=value`` lines in which any key and any value is safe, and lists within a value.

A plain text stands as it is, so that a reader who splits at the first ``=`` reads it exactly. One
that a line cannot hold (a line break, white space at an end, a quote at the beginning) stands as a
JSON string in its double quotes. A key with ``=`` in it is quoted as well.

Within a list ``,`` is between the items and ``:`` between the parts of one; where a part has one of
these, ``%`` or a line break in it, that stands as ``%`` and two hexadecimal digits, as in a URL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

_QUOTE: Final = '"'
_BETWEEN_ITEMS, _BETWEEN_PARTS = ",", ":"
_ESCAPED: Final = {ord(char): f"%{ord(char):02X}" for char in "%,:\n\r"}
_DECODER: Final = json.JSONDecoder()


def write_lines(pairs: Mapping[str, str]) -> str:
    """Write each pair as a line, in their order."""
    return "".join(f"{_key(key)}={_text(value)}\n" for key, value in pairs.items())


def read_lines(text: str) -> dict[str, str]:
    """Read what `write_lines` wrote.

    Raises:
        ValueError: when a line is not one.
    """
    return dict(_read_line(line) for line in text.split("\n") if line)


def write_list(items: Iterable[Sequence[str]]) -> str:
    """Write items of two or more parts each."""
    return _BETWEEN_ITEMS.join(
        _BETWEEN_PARTS.join(part.translate(_ESCAPED) for part in item) for item in items
    )


def read_list(text: str) -> list[tuple[str, ...]]:
    """Read what `write_list` wrote."""
    return [*_read_items(text)] if text else []


def _key(key: str) -> str:
    return json.dumps(key) if "=" in key else _text(key)


def _text(text: str) -> str:
    return text if _is_plain(text) else json.dumps(text)


def _is_plain(text: str) -> bool:
    in_one_line = text.splitlines() == ([text] if text else [])
    return in_one_line and text == text.strip() and not text.startswith(_QUOTE)


def _read_line(line: str) -> tuple[str, str]:
    if line.startswith(_QUOTE):
        key, end = _DECODER.raw_decode(line)
        between, value = line[end : end + 1], line[end + 1 :]
    else:
        key, between, value = line.partition("=")
    if not between == "=":
        raise ValueError(f"{line!r} is not KEY=value")
    return key, json.loads(value) if value.startswith(_QUOTE) else value


def _read_items(text: str) -> Iterator[tuple[str, ...]]:
    for item in text.split(_BETWEEN_ITEMS):
        yield tuple(unquote(part) for part in item.split(_BETWEEN_PARTS))
