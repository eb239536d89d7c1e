"""Dotfiles: files of a caller's own, which a kernel's work directory has when it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MOST: Final = 64
"""The most dotfiles of a kernel."""

LARGEST: Final = 64 << 10
"""The most bytes of one of them; all together may have four times as many."""

_IN_ALL: Final = 4 * LARGEST
_DEEPEST: Final = 8
_LONGEST_NAME: Final = 200
_PERM: Final = re.compile(r"0?[0-7]{3}")

FIELDS: Final[Mapping[str, str]] = {
    "path": "where, below the work directory: .bashrc, .jupyter/custom/custom.css (required)",
    "data": "what is in it, as text (required)",
    "perm": "its permissions as octal text; 644 when absent, always with the owner's reading",
}
"""Every field of a dotfile and what it means."""


@dataclass(frozen=True, slots=True)
class Dotfile:
    """One file below the work directory.

    Attributes:
        path: Where it is, relative to the work directory.
        data: Its text; it may be a secret, so that no message shows it.
        perm: Its permissions.
    """

    path: str
    data: str = field(repr=False)
    perm: int = 0o644

    def to_data(self) -> dict[str, str]:
        """Render as plain JSON data."""
        return {"path": self.path, "data": self.data, "perm": f"{self.perm:o}"}


def read_dotfiles(value: object) -> tuple[tuple[Dotfile, ...], list[str]]:
    """Read a caller's list of dotfiles; return those without fault, and the faults."""
    if value is None:
        return (), []
    if not isinstance(value, list):
        return (), ["not a list of tables of path, data and perm"]
    if len(value) > MOST:
        return (), [f"{len(value)} files, and {MOST} are the most"]
    found: list[Dotfile] = []
    faults: list[str] = []
    for number, item in enumerate(value):
        wrong = list(_faults_of(item))
        faults += [f"number {number}: {fault}" for fault in wrong]
        if not wrong:
            found.append(Dotfile(item["path"], item["data"], int(item.get("perm", "644"), 8)))
    return tuple(found), faults + list(_faults_together(found))


def _faults_of(item: object) -> Iterator[str]:
    if not isinstance(item, Mapping):
        yield "not a table of path, data and perm"
        return
    for name in sorted(item.keys() - FIELDS.keys(), key=str):
        yield f"unknown field {name!r}; known: {', '.join(FIELDS)}"
    yield from _faults_of_path(item.get("path"))
    yield from _faults_of_data(item.get("data"))
    perm = item.get("perm", "644")
    if not isinstance(perm, str) or not _PERM.fullmatch(perm):
        yield f"perm: {perm!r} is not octal text such as 644"
    elif not int(perm, 8) & 0o400:
        yield f"perm: {perm!r} does not let the owner read it"


def _faults_of_path(path: object) -> Iterator[str]:
    if not isinstance(path, str) or not path:
        yield "path: a text is required"
        return
    parts = path.split("/")
    if path.startswith("/"):
        yield f"path: {path[:80]!r} is not below the work directory"
    elif any(part in ("", ".", "..") for part in parts):
        yield f"path: {path[:80]!r} has an empty part, '.' or '..'"
    elif len(parts) > _DEEPEST or any(_length(part) > _LONGEST_NAME for part in parts):
        yield f"path: {path[:80]!r} has over {_DEEPEST} parts, or one over {_LONGEST_NAME} bytes"
    if not path.isprintable():
        yield f"path: {path[:80]!r} has a character that cannot be printed"


def _faults_of_data(data: object) -> Iterator[str]:
    if not isinstance(data, str):
        yield "data: a text is required"
    elif not is_encodable(data):
        yield "data: has a character that is none"
    elif _length(data) > LARGEST:
        yield f"data: larger than {LARGEST >> 10} KiB"


def _faults_together(files: list[Dotfile]) -> Iterator[str]:
    if sum(_length(file.data) for file in files) > _IN_ALL:
        yield f"larger than {_IN_ALL >> 10} KiB in all"
    paths = [file.path for file in files]
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        yield f"{path!r} is there twice"
    for path in sorted({*paths}):
        if any(other.startswith(f"{path}/") for other in paths):
            yield f"{path!r} is a file and a directory"


def is_encodable(text: str) -> bool:
    """Tell whether a text can be written to a file: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
