"""Files whose change must survive a power failure."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's names, are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put_in_place(made: Path, path: Path) -> None:
    """Give a finished file its name at once, whole or not at all; replaces what had it."""
    sync(made)
    made.rename(path)
    sync(path.parent)
