"""The lock on the state directory: one agent at a time, named by its pid."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from agent_core.contracts.errors import LedgerFailed, StateDirectoryInUse

_NAME: Final = "agent.lock"


def holder_of(state_dir: Path) -> int | None:
    """Find the pid of the agent that has the lock, without touching it; None when nobody has."""
    try:
        inode = (state_dir / _NAME).stat().st_ino
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    for fields in map(str.split, locks.splitlines()):
        if "FLOCK" in fields and fields[-3].endswith(f":{inode}"):
            return int(fields[-4])
    return None


class StateLock:
    """An flock on ``<state>/agent.lock``, held for the agent's whole life.

    The lock belongs to the open file, so the kernel gives it back however the agent ends; the pid
    inside only tells people whom to ask.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _NAME
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock at once or not at all.

        Raises:
            StateDirectoryInUse: when another agent has it; names its pid.
            LedgerFailed: when the lock's file cannot be opened.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise LedgerFailed(
                f"cannot lock the state directory: {self._path}: {exc.strerror}",
                hint="Set [agent] var-base-path to a directory that you can write.",
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StateDirectoryInUse(
                f"state directory {self._path.parent} is in use by the agent with pid {holder}",
                details={"pid": int(holder) if holder.isdigit() else None},
            ) from exc
        self._fd = fd
        with contextlib.suppress(OSError):  # on a full disk the lock is a lock all the same
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
