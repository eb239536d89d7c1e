"""The agent's side of one worker process: its start, its requests, its end."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from agent_core.host.capture import OutputCapture
from agent_core.host.channel import LOAD, Channel, Garbled, packed
from agent_core.host.spawning import spawn

END_DEADLINE: Final = 5.0
"""Seconds that a killed worker has to be gone."""

BOOT: Final = (
    "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep);"
    " from agent_core.host.worker import main; main(sys.argv[1:])"
)
"""What a worker is told to run; nobody else's command line has it."""

_log = logging.getLogger(__name__)


class WorkerLost(Exception):
    """Raised when a worker is gone, or was ended for what it sent."""


class WorkerProcess:
    """One process with one plugin; every method may be called from any thread, and may block.

    Args:
        label: The plugin as messages name it.
        name: The plugin's name.
        lanes: The names of its lanes; each has a socket of its own.

    Raises:
        OSError: when it cannot be started.
    """

    def __init__(self, label: str, name: str, lanes: Sequence[str]) -> None:
        self.label = label
        self._numbers = count(1)
        self._ending = threading.Lock()
        self._ended = ""
        self._why = ""
        self._guards = {lane: threading.Lock() for lane in lanes}
        pairs = [socket.socketpair() for _ in lanes]
        self._channels = {lane: Channel(ours) for lane, (ours, _) in zip(lanes, pairs, strict=True)}
        read, write = os.pipe()
        self.output = OutputCapture(label, read)
        theirs = [end.fileno() for _, end in pairs]
        try:
            self._process = spawn(
                [sys.executable, "-I", "-c", BOOT, _search_path(), str(os.getpid()), name]
                + [str(number) for number in theirs],
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                pass_fds=theirs,
                start_new_session=True,
            )
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self.output.stop()
            self._close_channels()
            raise
        finally:
            os.close(write)
            for _, end in pairs:
                end.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def request(
        self, lane: str, method: str, arguments: Sequence[Any], timeout: float | None = None
    ) -> tuple[bool, Any]:
        """Ask for a call and wait for its outcome: true and the reply, or false and the failure.

        Raises:
            WorkerLost: when it is gone, or sent what is no answer and was killed for it.
            Garbled: when the arguments cannot be sent; nothing was.
            TimeoutError: when it did not answer in time; it was killed.
        """
        with self._guards[lane]:
            channel, number = self._channels[lane], next(self._numbers)
            frame = packed([number, method, arguments])
            try:
                channel.send_frame(frame)
                return _outcome(channel.receive(timeout), number)
            except TimeoutError:
                self.kill(f"it was still in {method}() after {timeout:g} s")
                raise
            except Garbled as exc:
                self.kill(f"it answered {method}() with {exc}")
                raise WorkerLost(f"was killed: {self._why}") from exc
            except (EOFError, OSError) as exc:
                where = "at import" if method == LOAD else f"in {method}()"
                raise WorkerLost(self.how(where)) from exc

    def kill(self, why: str) -> None:
        """Kill it and what it started, and wake whoever waits for an answer."""
        self._why = self._why or why
        self._kill()

    def how(self, where: str = "") -> str:
        """Say how it ended, waiting a moment for its end: ``was killed by SIGSEGV in open()``."""
        if self._ended:
            # Whoever watches it may have seen its end first, and knows of no call.
            return self._ended if self._why else f"{self._ended} {where}".rstrip()
        if self._why:
            return f"was killed: {self._why}"
        if not self._is_over(1.0):
            return f"hung up {where}".rstrip()
        try:
            status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            status = None
        if status is None:
            return "is gone"
        return f"{_ending(status.si_code, status.si_status)} {where}".rstrip()

    def resident(self) -> int:
        """Return its resident bytes; 0 when it is gone."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:  # noqa: PTH123 - read every few seconds for ever
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def end(self) -> str:
        """Kill it where it still runs, give everything back, and say how it ended."""
        with self._ending:
            if self._ended:
                return self._ended
            how = self.how() if self._why or self._is_over(0.0) else "was ended"
            self._kill()
            try:
                self._process.wait(END_DEADLINE)
            except subprocess.TimeoutExpired:
                _log.error("the worker of %s, pid %d, cannot be killed", self.label, self.pid)
            self._ended = how
            self._close_channels()
            self.output.stop()
            os.close(self.pidfd)
            return how

    def _is_over(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not yet reaped, so that the number is still its own: it leads the group.
                os.killpg(self.pid, signal.SIGKILL)
        for channel in self._channels.values():
            channel.hang_up()

    def _close_channels(self) -> None:
        for lane, channel in self._channels.items():
            with self._guards[lane]:
                channel.close()


def _outcome(answer: Any, number: int) -> tuple[bool, Any]:
    if not isinstance(answer, list) or len(answer) != 3 or answer[0] != number:
        raise Garbled("what is no answer to it")
    if not isinstance(answer[1], bool):
        raise Garbled("neither a reply nor a failure")
    return answer[1], answer[2]


def _ending(code: int, status: int) -> str:
    if code == os.CLD_EXITED:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(status).name}"
    except ValueError:
        return f"was killed by signal {status}"


def _search_path() -> str:
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)  # noqa: PTH100 - no file is touched
