"""Removing a directory that code could write to: however deep it is, and whatever is locked in it.

No process of the kernel is left when this is called, so that nothing changes under it.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW


def remove_tree(path: Path) -> None:
    """Remove what is there and all that is below; does nothing when it is not there.

    Directories are moved up one by one before they are emptied, so that depth costs neither
    descriptors nor recursion. No link is followed.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        with suppress(FileNotFoundError):
            _remove(path.name, parent)
    finally:
        os.close(parent)


def _remove(name: str, parent: int) -> None:
    if not _is_directory(name, parent):
        os.unlink(name, dir_fd=parent)
        return
    with _opened(name, parent) as top:
        while entries := os.listdir(top):  # noqa: PTH208 - a descriptor is no path
            for entry in entries:
                _flatten(entry, top)
    os.rmdir(name, dir_fd=parent)


def _flatten(name: str, top: int) -> None:
    """Remove a file, or a directory whose own directories are moved up first."""
    if not _is_directory(name, top):
        os.unlink(name, dir_fd=top)
        return
    with _opened(name, top) as directory:
        for entry in os.listdir(directory):  # noqa: PTH208 - as above
            _lift(entry, directory, top)
    os.rmdir(name, dir_fd=top)


def _lift(entry: str, directory: int, top: int) -> None:
    if not _is_directory(entry, directory):
        os.unlink(entry, dir_fd=directory)
        return
    with _opened(entry, directory):  # what is moved must be writable itself
        os.rename(entry, secrets.token_hex(8), src_dir_fd=directory, dst_dir_fd=top)


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)


@contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    """Open a directory, with all rights to it."""
    handle = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=parent)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
        directory = os.open(name, os.O_RDONLY | _DIRECTORY, dir_fd=parent)
    finally:
        os.close(handle)
    try:
        yield directory
    finally:
        os.close(directory)
