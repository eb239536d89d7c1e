"""What a kernel would complete, as words that replace the dotted word before the cursor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def words(content: dict[str, Any], code: str, cursor: int) -> list[str]:
    """Read a reply: a kernel says itself which part of the code its matches replace."""
    matches, begin = content.get("matches"), content.get("cursor_start")
    if not isinstance(matches, list) or not isinstance(begin, int):
        return []
    cursor = min(cursor, len(code))
    start = _start_of_word(code, cursor)
    begin = max(0, min(begin, cursor))
    texts = [match for match in matches if isinstance(match, str)]
    if begin >= start:
        return [code[start:begin] + text for text in texts]
    before = code[begin:start]
    return [text[len(before) :] for text in texts if text.startswith(before)]


def _start_of_word(code: str, cursor: int) -> int:
    start = cursor
    while start and (code[start - 1].isalnum() or code[start - 1] in "_."):
        start -= 1
    return start
