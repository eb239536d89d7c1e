"""One TOML file of the plugin's, read whole or refused; its faults have their lines."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accel_mock.model import Place
from agent_core.contracts.errors import InvalidConfig, bullet_list

if TYPE_CHECKING:
    from accel_mock.lines import Lines

LARGEST: Final = 4 << 20
"""Bytes of the largest file that is read; a device that is written out in full takes some 200."""

Signature = tuple[int, int, int] | None
"""By what a change is seen: inode, size and time of the last change; None when it is not there."""


def signature(path: Path) -> Signature:
    """Look at a file without reading it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Document:
    """A file that was read.

    Attributes:
        path: Where it lies.
        content: What it says.
        warnings: What is odd in it and no fault.
    """

    def __init__(self, path: Path, text: str, content: Mapping[str, Any]) -> None:
        self.path = path
        self.content = content
        self.warnings: list[str] = []
        self._text = text
        self._faults: list[tuple[Place, str]] = []

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises:
            InvalidConfig: when it cannot be read, is too large, not UTF-8 or not TOML.
        """
        data = _bytes_of(path)
        try:
            text = data.decode().replace("\r\n", "\n")
            return cls(path, text, tomllib.loads(text))
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            raise refusal([f"{path}:{line}: is not UTF-8"]) from exc
        except tomllib.TOMLDecodeError as exc:
            raise refusal([_syntax_fault(path, text, str(exc))]) from exc
        except RecursionError as exc:
            raise refusal([f"{path}: is nested too deeply"]) from exc

    def fault(self, place: Place, what: str) -> None:
        """Note what is wrong with the value at a place."""
        self._faults.append((place, what))

    def warn(self, place: Place, what: str) -> None:
        """Note what is odd at a place."""
        self.warnings.append(f"{self.path}:{self._lines().of(place)}: {what}")

    def check(self) -> None:
        """Refuse the file when it has faults.

        Raises:
            InvalidConfig: with every fault and its line in ``details.faults``.
        """
        if self._faults:
            lines = self._lines()
            numbered = sorted((lines.of(place), what) for place, what in self._faults)
            raise refusal([f"{self.path}:{line}: {what}" for line, what in numbered])

    def _lines(self) -> Lines:
        # Only a file with something to point at needs the scanner.
        from accel_mock.lines import Lines

        return Lines(self._text)


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise refusal([f"{path}: {_not_a_file(path)}"])
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as exc:
        raise refusal([f"{path}: cannot be read: {exc.strerror or exc}"]) from exc
    if len(data) > LARGEST:
        more = "write devices that are alike once, with count = N"
        raise refusal([f"{path}: is larger than {LARGEST >> 20} MiB; {more}"])
    return data


def _not_a_file(path: Path) -> str:
    if path.is_dir():
        return "is a directory, not a file"
    return "is not a regular file" if path.exists() else "is not there"


def _syntax_fault(path: Path, text: str, message: str) -> str:
    what, _, place = message.partition(" (at ")
    line = place.split()[1].strip(",)") if place.startswith("line ") else text.count("\n") + 1
    return f"{path}:{line}: is not TOML: {what}"


def refusal(faults: Sequence[str]) -> InvalidConfig:
    """Make the error that names all faults."""
    return InvalidConfig(
        f"mock: {bullet_list(faults)}",
        hint="Mend every fault listed; no mock accelerator is offered until then.",
        details={"faults": list(faults)},
    )
