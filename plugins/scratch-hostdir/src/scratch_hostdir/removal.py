"""Removing a tree that its user may have made hard to remove.

Directories are moved up into the trash one by one before they are opened, so that depth costs
neither recursion nor file descriptors, no name is ever resolved through a link, and a mount point
cannot be entered: the kernel refuses to move it.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(name: str, parent: int | None = None) -> int:
    """Open a directory that is no link.

    Raises:
        OSError: when it is not there, or not a directory.
    """
    return os.open(name, _OPEN, dir_fd=parent)


def empty(trash: int) -> None:
    """Remove everything in an open directory.

    Raises:
        OSError: when something cannot be removed; what could be is.
    """
    while names := os.listdir(trash):
        for name in names:
            if _is_directory(name, trash):
                _flatten(name, trash)
            else:
                os.unlink(name, dir_fd=trash)


def new_name() -> str:
    """Make a name that is free in the trash."""
    return secrets.token_hex(8)


def _flatten(name: str, trash: int) -> None:
    """Remove a directory's files, move its directories up, then remove it."""
    _unlock(name, trash)
    directory = open_directory(name, trash)
    try:
        with os.scandir(directory) as entries:
            found = [(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
        for entry, is_directory in found:
            if is_directory:
                _unlock(entry, directory)
                os.rename(entry, new_name(), src_dir_fd=directory, dst_dir_fd=trash)
            else:
                os.unlink(entry, dir_fd=directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=trash)


def _unlock(name: str, parent: int) -> None:
    """Give ourselves all rights to a directory, which may not even be readable."""
    handle = os.open(name, _LOOK, dir_fd=parent)
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) & 0o700 != 0o700:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
