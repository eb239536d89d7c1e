"""What services say: their output, in the kernel's log and, its end, in answers."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_kernel_runner.daemon.loop import Loop


class Tail:
    """What a service says: all of it goes to the kernel's log, and the end of it is kept.

    Args:
        loop: The event loop.
        record: Takes what is for the kernel's log.
        size: Bytes that are kept.

    Attributes:
        writer: Where the service writes; closed here once it has been started.
    """

    def __init__(self, loop: Loop, record: Callable[[bytes], None], size: int) -> None:
        self._loop = loop
        self._record = record
        self._size = size
        self._kept = b""
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        loop.on_readable(self._reader, self.read)

    def started(self) -> None:
        """Keep the reading end alone."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def read(self) -> None:
        """Take what has been written."""
        try:
            data = os.read(self._reader, 1 << 15) if self._reader >= 0 else b""
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._record(data)
        self._kept = (self._kept + data)[-self._size :]

    def text(self) -> str:
        """Return the end of it, with what is still in the pipe."""
        for _ in range(8):
            self.read()
        return self._kept.decode("utf-8", "replace")

    def close(self) -> None:
        """Read no more."""
        self.started()
        if self._reader >= 0:
            self._loop.on_readable(self._reader, None)
            os.close(self._reader)
            self._reader = -1
