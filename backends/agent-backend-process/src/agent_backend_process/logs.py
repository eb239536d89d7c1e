"""Reading a bounded log: what is there, in order, with a mark where output was dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent_backend_process import records
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.logring import segment_size

_CHUNK = 1 << 16


class LogReader:
    """A position in one container's log; blocks."""

    def __init__(self, directory: ContainerDirectory, limit: int) -> None:
        self._folder = Path(directory.file(records.LOG))
        self._size = segment_size(limit)
        self._position = 0

    def end(self) -> int:
        """Return the position after the last byte written so far."""
        numbers = self._numbers()
        if not numbers:
            return 0
        return numbers[-1] * self._size + self._length(numbers[-1])

    def read(self, end: int) -> bytes | None:
        """Read a chunk before `end`; None when there is nothing more."""
        while self._position < end:
            number, offset = divmod(self._position, self._size)
            wanted = min(_CHUNK, end - self._position, self._size - offset)
            chunk = self._piece(number, offset, wanted)
            if chunk:
                self._position += len(chunk)
                return chunk
            dropped = self._skip(number, end)
            if dropped:
                return b"\n[... %d bytes of output dropped ...]\n" % dropped
        return None

    def _piece(self, number: int, offset: int, wanted: int) -> bytes:
        try:
            with (self._folder / str(number)).open("rb") as file:
                file.seek(offset)
                return file.read(wanted)
        except FileNotFoundError:
            return b""

    def _skip(self, number: int, end: int) -> int:
        """Go on to the next segment that is there; returns how many bytes that leaves out."""
        following = [n for n in self._numbers() if n > number]
        target = min(following[0] * self._size, end) if following else end
        dropped = target - self._position
        self._position = target
        return dropped

    def _numbers(self) -> list[int]:
        return sorted(self._present())

    def _present(self) -> Iterator[int]:
        if self._size and self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name.isdigit():
                    yield int(path.name)

    def _length(self, number: int) -> int:
        try:
            return (self._folder / str(number)).stat().st_size
        except FileNotFoundError:
            return self._size
