"""What the daemon says for itself: the kernel's log, which is its own standard error."""

from __future__ import annotations

import os
import select

_ATOMIC = 4096  # PIPE_BUF: a write of at most this much to a writable pipe does not block


def note(text: str) -> None:
    """Write one line to the kernel's log."""
    record(2, f"[runner] {text}\n".encode("utf-8", "backslashreplace"))


def record(fd: int, data: bytes) -> None:
    """Append bytes to the kernel's log (1 or 2); what a full log cannot take now is dropped."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    for start in range(0, len(data), _ATOMIC):
        try:
            if not any(events & select.POLLOUT for _, events in poller.poll(0)):
                return
            os.write(fd, data[start : start + _ATOMIC])
        except OSError:
            return
