"""Worker processes of this agent that nobody keeps: found among its children, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import PluginError, WrongState
from agent_core.host.worker_process import BOOT, END_DEADLINE

_NAME_AT: Final = 6
"""Where a worker's command line has the plugin's name; the agent's process id is just before it."""


@dataclass(frozen=True, slots=True)
class StrayWorker:
    """One worker that nobody keeps: its plugin, and pid and start time, which name it for ever."""

    plugin: str
    pid: int
    started: int

    @property
    def key(self) -> str:
        """What names this very process on this node until the next boot."""
        return f"{self.pid}@{self.started}"


class StrayWorkers:
    """Looks for workers that nobody keeps.

    Args:
        kept: Returns the process ids of those that somebody does.
    """

    def __init__(self, kept: Callable[[], Collection[int]] = tuple) -> None:
        self._kept = kept

    def find(self) -> list[StrayWorker]:
        """List them; blocks for a moment."""
        children = {pid: words for pid in _children() if (words := _words(pid))}
        kept = set(self._kept())
        return [
            StrayWorker(words[_NAME_AT], pid, started)
            for pid, words in children.items()
            if pid not in kept and _is_worker(words) and (started := _started(pid)) is not None
        ]

    def end(self, key: str) -> None:
        """Kill one that `find` found; succeeds when it is gone. Blocks until it is.

        Raises:
            WrongState: when somebody keeps it.
            PluginError: when it cannot be killed.
        """
        pid, _, started = key.partition("@")
        try:
            fd = os.pidfd_open(int(pid))
        except ProcessLookupError:
            return
        try:
            if str(_started(int(pid))) != started:
                return
            if int(pid) in self._kept():
                raise WrongState(f"worker {key} is kept")
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            if not _is_over(fd):
                raise PluginError(f"worker {key} cannot be killed", stage="end")
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
        finally:
            os.close(fd)


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def _is_worker(words: list[str]) -> bool:
    return BOOT in words and len(words) > _NAME_AT and words[_NAME_AT - 1] == str(os.getpid())


def _started(pid: int) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    return None


def _is_over(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(END_DEADLINE * 1000))
