"""Measuring a tree without following links, however deep it is, in bounded time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from scratch_hostdir.removal import open_directory

_BLOCK = 512


@dataclass(slots=True)
class _Level:
    identity: tuple[int, int]
    pending: list[str]


class TreeMeter:
    """One measurement of the disk space under a directory; links of a file count once.

    Directories that cannot be read are left out, and so is what is moved while it is measured.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._seen: set[tuple[int, int]] = set()
        self._used = 0

    def measure(self, path: str) -> int:
        """Return bytes on disk.

        Raises:
            TimeoutError: when the tree is too large for the time that there is.
            OSError: when the directory itself cannot be read.
        """
        directory = open_directory(path)
        try:
            levels = [self._enter(directory)]
            while levels:
                if levels[-1].pending:
                    below = _descend(directory, levels[-1].pending.pop())
                    if below is not None:
                        os.close(directory)
                        directory = below
                        levels.append(self._enter(directory))
                    continue
                levels.pop()
                if levels:
                    above = open_directory("..", directory)
                    os.close(directory)
                    directory = above
                    if _identity(directory) != levels[-1].identity:
                        break
        finally:
            os.close(directory)
        return self._used

    def _enter(self, directory: int) -> _Level:
        level = _Level(_identity(directory), [])
        self._count(os.fstat(directory))
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    self._look(entry, level)
        except PermissionError:
            level.pending.clear()
        return level

    def _look(self, entry: os.DirEntry[str], level: _Level) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError
        if entry.is_dir(follow_symlinks=False):
            level.pending.append(entry.name)
            return
        try:
            self._count(entry.stat(follow_symlinks=False))
        except FileNotFoundError:
            return

    def _count(self, found: os.stat_result) -> None:
        if found.st_nlink > 1:
            key = (found.st_dev, found.st_ino)
            if key in self._seen:
                return
            self._seen.add(key)
        self._used += found.st_blocks * _BLOCK


def _descend(directory: int, name: str) -> int | None:
    try:
        return open_directory(name, directory)
    except OSError:
        return None


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino
