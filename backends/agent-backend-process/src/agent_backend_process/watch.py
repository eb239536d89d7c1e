"""Learning of ends without asking: one pidfd for each watched process, and one callback."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from agent_backend_process import processes
from agent_backend_process.processes import Process


class ProcessWatch:
    """Calls back when a watched process has ended, and reaps it where it is our child."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._names: dict[int, str] = {}

    def add(self, name: str, pidfd: int) -> None:
        """Watch a process; the descriptor is closed when it ends."""
        self._names[pidfd] = name
        self._loop.add_reader(pidfd, self._end, pidfd)

    def watches(self, name: str) -> bool:
        """Say whether some process of this container is watched."""
        return name in self._names.values()

    def _end(self, pidfd: int) -> None:
        name = self._names.pop(pidfd)
        self._loop.remove_reader(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)
        self._ended(name)

    def close(self) -> None:
        """Watch nothing any more; the processes go on."""
        for pidfd in self._names:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._names.clear()


def reap(process: Process) -> None:
    """Reap a zombie child that nobody watched; no other process is touched."""
    if processes.status(process[0]) == ("Z", process[1]):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process[0], os.WEXITED | os.WNOHANG)
