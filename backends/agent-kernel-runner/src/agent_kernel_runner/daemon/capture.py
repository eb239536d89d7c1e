"""Capture: the two pipes that all code of the kernel writes to.

They live as long as the daemon does and every child inherits them, so a process that a run left
behind never holds anything open, and what it writes between runs has somewhere to go.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import sys
import termios
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent_kernel_runner.daemon.loop import Loop

_CHUNK = 1 << 15
_PIPE_SIZE = 1 << 18
_SMALL = 1 << 12

PACE = 0.002
"""Seconds between two looks at a pipe that has little in it: the first byte passes at once, and
what code writes character by character still becomes few messages."""


class Pipe:
    """One pipe: where code writes, where the daemon reads, and how far it has read."""

    __slots__ = ("_decoder", "reader", "stream", "taken", "watched", "writer")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.reader, self.writer = os.pipe()
        self.taken = 0
        self.watched = False
        self.reset()
        os.set_blocking(self.reader, False)
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            pass  # the system's bound for this user is reached; smaller is slower and no more

    def reset(self) -> None:
        """Forget half a character."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def waiting(self) -> int:
        """Return how many bytes are in the pipe."""
        answer = fcntl.ioctl(self.reader, termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    def take(self, limit: int) -> tuple[int, str]:
        """Read at most `limit` bytes; return how many there were and their text so far."""
        try:
            data = os.read(self.reader, limit)
        except BlockingIOError:
            return 0, ""
        self.taken += len(data)
        return len(data), self._decoder.decode(data)

    def rest(self) -> str:
        """Return what half a character at the end stands for."""
        text = self._decoder.decode(b"", True)
        self.reset()
        return text


class Capture:
    """Reads both pipes, as far as there is room, and hands on their text.

    Args:
        loop: The event loop.
        room: Returns how many bytes may be read now.
        write: Takes a stream's name and text.
    """

    def __init__(
        self, loop: Loop, room: Callable[[], int], write: Callable[[str, str], None]
    ) -> None:
        self._loop = loop
        self._room = room
        self._write = write
        self.stdout = Pipe("stdout")
        self.stderr = Pipe("stderr")
        self._marks: deque[tuple[dict[Pipe, int], Callable[[], None]]] = deque()
        for pipe in self._pipes():
            self._watch(pipe)

    def _pipes(self) -> Iterable[Pipe]:
        return (self.stdout, self.stderr)

    def prepare(self) -> None:
        """Undo what code may have done to the pipes: a writer of them must be able to wait."""
        for pipe in self._pipes():
            os.set_blocking(pipe.writer, True)

    def resume(self) -> None:
        """Read again: there may be room now."""
        for pipe in self._pipes():
            if not pipe.watched and self._allowed(pipe) > 0:
                self._watch(pipe)

    def settle(self, then: Callable[[], None]) -> None:
        """Call once everything that is in the pipes now has been handed on."""
        targets = {pipe: pipe.taken + pipe.waiting() for pipe in self._pipes()}
        self._marks.append((targets, then))
        self._reach()
        self.resume()

    def finish(self) -> None:
        """Hand on what half a character at the end of each stream stands for."""
        for pipe in self._pipes():
            if text := pipe.rest():
                self._write(pipe.stream, text)

    def _reach(self) -> None:
        while self._marks:
            targets, then = self._marks[0]
            if any(pipe.taken < target for pipe, target in targets.items()):
                return
            self._marks.popleft()
            then()
            self.resume()

    def _watch(self, pipe: Pipe) -> None:
        pipe.watched = True
        self._loop.on_readable(pipe.reader, lambda: self._read(pipe))

    def _unwatch(self, pipe: Pipe) -> None:
        pipe.watched = False
        self._loop.on_readable(pipe.reader, None)

    def _read(self, pipe: Pipe) -> None:
        room = self._allowed(pipe)
        if room <= 0:
            self._unwatch(pipe)
            return
        size, text = pipe.take(min(room, _CHUNK))
        if text:
            self._write(pipe.stream, text)
        if self._marks:
            self._reach()
        elif size < _SMALL:
            self._unwatch(pipe)
            self._loop.call_later(PACE, self.resume)

    def _allowed(self, pipe: Pipe) -> int:
        """Return how much may be read: never across a mark, for there a run may end."""
        room = self._room()
        if not self._marks:
            return room
        return min(room, self._marks[0][0][pipe] - pipe.taken)
