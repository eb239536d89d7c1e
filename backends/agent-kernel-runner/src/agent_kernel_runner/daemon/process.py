"""Child processes: each in a session of its own, with the captured pipes and nothing else open."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_kernel_runner.daemon.capture import Capture
    from agent_kernel_runner.daemon.loop import Loop

CONTROL_FD = 3
"""Where an interpreter finds its control channel."""

# What this interpreter ignores for its own sake would be ignored by all code of users.
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)


def shell() -> str:
    """Name the image's shell for commands."""
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Process:
    """A running child, the leader of its process group.

    Attributes:
        pid: Its process id, and its group's.
        ends_group: Whether what is left of its group is killed when it ends.
    """

    def __init__(self, pid: int, on_exit: Callable[[int], None]) -> None:
        self.pid = pid
        self.ends_group = False
        self.on_exit = on_exit

    def signal(self, number: int) -> None:
        """Signal the whole group; a group that is gone is no error."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass


class Processes:
    """Starts children and learns of their end.

    Args:
        loop: The event loop.
        capture: Where their output goes.
        work_dir: Where they start.
    """

    def __init__(self, loop: Loop, capture: Capture, work_dir: str) -> None:
        self._capture = capture
        self._work_dir = work_dir
        self._running: dict[int, Process] = {}
        self._idle: Callable[[], None] | None = None
        self._null = os.open(os.devnull, os.O_RDONLY)
        loop.on_signal(signal.SIGCHLD, self._reap)

    def spawn(
        self,
        argv: list[str],
        env: Mapping[str, str],
        on_exit: Callable[[int], None],
        control: int | None = None,
        output: int | None = None,
        directory: str = "",
    ) -> Process:
        """Start a child; `on_exit` gets its exit code, negative for the signal that ended it.

        With `output` it writes there, and nothing of it is captured; it begins in `directory`, by
        default the one where code runs.

        Raises:
            OSError: when the program or the working directory is not there, or all is ending.
        """
        if self._idle is not None:
            raise OSError("the runner is ending")
        os.chdir(directory or self._work_dir)
        moves = [
            (os.POSIX_SPAWN_DUP2, self._null, 0),
            (os.POSIX_SPAWN_DUP2, self._capture.stdout.writer if output is None else output, 1),
            (os.POSIX_SPAWN_DUP2, self._capture.stderr.writer if output is None else output, 2),
        ]
        if control is not None:
            moves.append((os.POSIX_SPAWN_DUP2, control, CONTROL_FD))
        try:
            pid = os.posix_spawn(
                argv[0], argv, env, file_actions=moves, setsid=True, setsigdef=_DEFAULTS
            )
        finally:
            if directory:
                os.chdir(self._work_dir)
        process = self._running[pid] = Process(pid, on_exit)
        return process

    def shut_down(self, idle: Callable[[], None]) -> None:
        """Ask all children to end and start no more; `idle` is called when none is left."""
        self._idle = idle
        for process in self._running.values():
            process.ends_group = True
            process.signal(signal.SIGTERM)
        if not self._running:
            idle()

    def kill(self) -> None:
        """Kill all children with their groups."""
        for process in self._running.values():
            process.signal(signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._collect(ended.si_pid)

    def _collect(self, pid: int) -> None:
        process = self._running.pop(pid, None)
        if process is not None and process.ends_group:
            # While its leader is not reaped no other group can have this number.
            process.signal(signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if process is not None:
            process.on_exit(os.waitstatus_to_exitcode(status))
            if self._idle is not None and not self._running:
                self._idle()
