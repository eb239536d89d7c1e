"""Writing Markdown: tables whose cells cannot break them, and docstrings turned into prose."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_ENTRY = re.compile(r"(\*{0,2}[\w.]+):\s+(.*)")
_CODE = ("    ", "class ", "def ", "from ", "with ", "allocator ")
_ROLES = {"Args": "Takes", "Attributes": "Has", "Raises": "Raises"}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render a table; bars and line breaks in cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(c) for c in line) + " |" for line in lines) + "\n"


def cell(value: object) -> str:
    """Render one cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def code(text: object) -> str:
    """Render as code, or nothing when there is nothing."""
    return f"`{text}`" if str(text) else ""


def codes(items: Iterable[object]) -> str:
    """Render several things as code, in order."""
    return ", ".join(code(item) for item in items)


def inline(text: str) -> str:
    """Turn the double backticks of a docstring into single ones."""
    return text.replace("``", "`")


def first_sentence(doc: str | None) -> str:
    """Take the first paragraph of a docstring as one line."""
    return inline(" ".join(inspect.cleandoc(doc or "").partition("\n\n")[0].split()))


def prose(doc: str | None) -> str:
    """Render a whole docstring: paragraphs as they are, sections of arguments as lists."""
    text = "\n".join(_prose(inspect.cleandoc(doc or ""))).strip()
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _prose(doc: str) -> Iterator[str]:
    section = ""
    for block in re.split(r"\n\n+", doc):
        lines = block.splitlines()
        if not lines:
            continue
        match = _SECTION.fullmatch(lines[0].strip())
        if match:
            section = match.group(1)
            yield from _list_of(section, lines[1:])
        elif lines[0].startswith(_CODE):
            # An example that is the whole rest of a docstring stands at its margin.
            margin = "" if lines[0].startswith(" ") else "    "
            yield from ["", *(margin + line for line in lines), ""]
        else:
            yield from ["", *(inline(line) for line in lines), ""]


def _list_of(section: str, lines: Sequence[str]) -> Iterator[str]:
    items: list[str] = []
    for line in lines:
        entry = _ENTRY.fullmatch(line.strip())
        if entry and len(line) - len(line.lstrip()) <= 4:
            items.append(f"- `{entry.group(1)}`: {entry.group(2)}")
        elif items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line.strip())
    yield from ["", f"{_ROLES.get(section, section)}:", "", *(inline(item) for item in items), ""]
