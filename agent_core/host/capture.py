"""What a worker prints, into the agent's log: bounded, and never in the way of the plugin."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from typing import Final

PERIOD: Final = 10.0
"""Seconds of one period of the bound."""

BOUND: Final = 64 << 10
"""Bytes that are read in one period; what is beyond is thrown away unread, and counted."""

LINE_BOUND: Final = 1000
"""Characters of a line that reach the log."""

_TAIL: Final = 8 << 10
_CHUNK: Final = 16 << 10
_DISCARD: Final = 1 << 20

_log = logging.getLogger(__name__)


class OutputCapture:
    """Reads a worker's standard output and error in a thread of its own until told to stop.

    Args:
        label: The plugin as the log names it.
        pipe: The reading end of the worker's output; closed by this.
    """

    def __init__(self, label: str, pipe: int) -> None:
        self._label = label
        self._pipe = pipe
        self._tail = b""
        self._partial = b""
        self._period_began = time.monotonic()
        self._read = 0
        self._dropped = 0
        self._wake, self._waker = os.pipe()
        os.set_blocking(pipe, False)
        self._thread = threading.Thread(target=self._work, name=f"{label} output", daemon=True)
        self._thread.start()

    @property
    def tail(self) -> str:
        """The end of what was read, for the record of a worker that died."""
        return self._tail.decode(errors="replace").strip()

    def stop(self, timeout: float = 1.0) -> None:
        """Take over what is left in the pipe and end the thread."""
        if self._waker >= 0:
            os.close(self._waker)
            self._waker = -1
            self._thread.join(timeout)

    def _work(self) -> None:
        with open(os.devnull, "wb", buffering=0) as nowhere:  # noqa: PTH123 - an open file is wanted, not a path
            try:
                while self._await():
                    self._take(nowhere.fileno())
                while self._take(nowhere.fileno()) and not self._dropped:
                    pass  # its last words; a flood ends here, whoever still writes
            finally:
                self._say(self._partial)
                os.close(self._pipe)
                os.close(self._wake)

    def _await(self) -> bool:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll())
        if ready.get(self._pipe, 0) == select.POLLHUP:
            poll.unregister(self._pipe)
            poll.poll()  # every writer is gone: only the end is left to wait for
            return False
        return self._wake not in ready

    def _take(self, nowhere: int) -> int:
        self._turn_the_period()
        try:
            if self._read >= BOUND:
                taken = os.splice(self._pipe, nowhere, _DISCARD)
                self._dropped += taken
                return taken
            chunk = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return 0
        self._read += len(chunk)
        self._tail = (self._tail + chunk)[-_TAIL:]
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._say(line)
        if len(self._partial) > LINE_BOUND:
            self._say(self._partial)
            self._partial = b""
        return len(chunk)

    def _turn_the_period(self) -> None:
        now = time.monotonic()
        if now - self._period_began < PERIOD:
            return
        if self._dropped:
            _log.debug("%s printed %d bytes more, not shown", self._label, self._dropped)
        self._period_began, self._read, self._dropped = now, 0, 0

    def _say(self, line: bytes) -> None:
        if line and _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s: %s", self._label, line.decode(errors="replace")[:LINE_BOUND])
