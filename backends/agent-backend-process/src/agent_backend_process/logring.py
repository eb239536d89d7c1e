"""The bounded log of one container: its beginning and its end, whatever lies between is dropped.

Output is cut into segments of equal size in files named by their number, so that a position in the
stream is a segment and an offset. Kept are the first segment and the last three. This module is
shared with the shim, which writes; `logs` reads.
"""

# pathlib doubles the time that the shim takes to start.
# ruff: noqa: PTH103, PTH108
from __future__ import annotations

import os

SEGMENTS = 4
"""Files that a log has at most."""


def segment_size(limit: int) -> int:
    """Return the size of one segment of a log that keeps `limit` bytes; 0 keeps nothing."""
    return limit // SEGMENTS


class LogRing:
    """Writes a bounded log; a full disk loses output and never stops the writer."""

    __slots__ = ("_directory", "_fd", "_position", "_size")

    def __init__(self, directory: str, limit: int) -> None:
        self._directory = directory
        self._size = segment_size(limit)
        self._position = 0
        self._fd = -1
        if self._size:
            os.makedirs(directory, mode=0o700, exist_ok=True)

    def write(self, data: bytes) -> None:
        """Append output."""
        view = memoryview(data)
        while view and self._size:
            room = self._size - self._position % self._size
            self._append(view[:room])
            self._position += len(view[:room])
            view = view[room:]

    def _append(self, part: memoryview) -> None:
        try:
            if self._position % self._size == 0:
                self._turn(self._position // self._size)
            os.write(self._fd, part)
        except OSError:
            return

    def _turn(self, number: int) -> None:
        """Begin a segment, and drop the one that no longer belongs to the end."""
        self.close()
        dropped = number - SEGMENTS + 1
        if dropped > 0:
            self._drop(f"{self._directory}/{dropped}")
        path = f"{self._directory}/{number}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def _drop(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def close(self) -> None:
        """Close the current segment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
