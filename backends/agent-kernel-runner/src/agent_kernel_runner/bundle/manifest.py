"""The manifest of a bundle: every file with its size, and what was written when."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAME: Final = "manifest.json"
FORMAT: Final = 1
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its size in bytes, the digest of its content, and whether it is a program."""

    size: int
    sha256: str
    program: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a bundle by their places, and the digest of all of them."""

    files: dict[str, Entry]
    digest: str

    def to_json(self) -> str:
        """Render for the file."""
        files = {
            path: [entry.size, entry.sha256, entry.program] for path, entry in self.files.items()
        }
        return json.dumps({"format": FORMAT, "digest": self.digest, "files": files}, indent=0)


def describe(directory: Path) -> Manifest:
    """Read every file of a directory and write down what is there."""
    files = {
        path: Entry(size, _sha256(directory / path), bool(mode & 0o100))
        for path, size, mode in sorted(_walk(directory))
        if path != NAME
    }
    return Manifest(files, digest_of(files))


def digest_of(files: dict[str, Entry]) -> str:
    """Digest all files with their places."""
    lines = (f"{path} {e.size} {e.sha256} {e.program:d}\n" for path, e in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(directory: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises:
        OSError: when there is none.
        ValueError: when it is damaged.
    """
    said: Any = json.loads((directory / NAME).read_bytes())
    try:
        if said["format"] != FORMAT:
            raise ValueError(f"its format is {said['format']}")
        files = {str(path): Entry(*entry) for path, entry in said["files"].items()}
        manifest = Manifest(files, str(said["digest"]))
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"it is no manifest: {exc!r}") from exc
    if digest_of(files) != manifest.digest:
        raise ValueError("its digest is another")
    return manifest


def faults(directory: Path, *, thorough: bool) -> list[str]:
    """Compare a bundle with its manifest; an empty list means that it is whole.

    Args:
        directory: The bundle.
        thorough: Whether every byte is read; otherwise presence, sizes and modes are compared.
    """
    try:
        manifest = read(directory)
    except OSError as exc:
        return [f"{NAME}: {exc.strerror}"]
    except ValueError as exc:
        return [f"{NAME}: {exc}"]
    present = {path: (size, mode) for path, size, mode in _walk(directory) if path != NAME}
    return [
        *(f"{path}: not part of it" for path in sorted(present.keys() - manifest.files.keys())),
        *_differences(directory, manifest, present, thorough=thorough),
    ]


def _differences(
    directory: Path, manifest: Manifest, present: dict[str, tuple[int, int]], *, thorough: bool
) -> Iterator[str]:
    for path, entry in manifest.files.items():
        if path not in present:
            yield f"{path}: missing"
            continue
        size, mode = present[path]
        if size != entry.size:
            yield f"{path}: {size} bytes in the place of {entry.size}"
        elif entry.program and not mode & 0o100:
            yield f"{path}: cannot be executed"
        elif thorough and _sha256(directory / path) != entry.sha256:
            yield f"{path}: its content is another"


def _walk(directory: Path) -> Iterator[tuple[str, int, int]]:
    for top, _, names in os.walk(directory):
        for name in names:
            path = Path(top) / name
            found = path.lstat()
            yield path.relative_to(directory).as_posix(), found.st_size, found.st_mode


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
