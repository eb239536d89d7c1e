"""Starting a shim, and hearing from it whether the main process runs."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from agent_backend_process import records
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.supervision import REPORT_FD
from agent_core.contracts.errors import KernelFailed

_SHIM = str(Path(__file__).with_name("shim.py"))
_ANSWER_BYTES = 200
_HINTS = {
    "cgroup": 'Set kill = "process-tree" in [plugin.process] to do without cgroups.',
    "cwd": "The working directory must exist before the container starts.",
    "exec": "The image's interpreter must exist and be executable by the agent's user.",
    "cpuset": "The cores must be online and allowed to the agent.",
    "rlimits": "Only root raises a hard limit.",
}


@dataclass(frozen=True, slots=True)
class Launched:
    """A shim that was started: its pidfd, and the pipe on which it will answer."""

    pidfd: int
    answer: int


def spawn(directory: ContainerDirectory) -> Launched:
    """Start the shim of a container, detached from all that is the agent's; blocks."""
    answer, writer = os.pipe()
    try:
        # A descriptor out of the way of those that the shim gets.
        high = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(writer)
        writer = high
        pid = _spawn(directory, writer)
    except BaseException:
        os.close(answer)
        raise
    finally:
        os.close(writer)
    # It cannot have been reaped, so that the pid is surely still its own.
    return Launched(os.pidfd_open(pid), answer)


def _spawn(directory: ContainerDirectory, writer: int) -> int:
    errors = directory.file(records.ERRORS)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        _interpreter(),
        [_interpreter(), "-I", "-S", _SHIM, str(directory.path)],
        {},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, errors, append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, writer, REPORT_FD),
        ],
    )


def _interpreter() -> str:
    """Return the interpreter below a virtual environment: it is there when that is gone."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


async def hear(launched: Launched, seconds: float) -> str:
    """Wait for the shim's answer; empty when it ended without one.

    Raises:
        TimeoutError: when it says nothing for so long.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(launched.answer, readable.set)
    try:
        async with asyncio.timeout(seconds):
            await readable.wait()
        return os.read(launched.answer, _ANSWER_BYTES).decode(errors="replace").strip()
    finally:
        loop.remove_reader(launched.answer)
        os.close(launched.answer)


def start_failed(directory: ContainerDirectory, failure: str) -> KernelFailed:
    """Explain why the main process did not begin, from what the shim answered."""
    stage, _, number = failure.partition(" ")
    name, code = directory.name, int(number) if number.isdigit() else 0
    if not code:
        message = f"the shim of container {name!r} failed: {directory.complaints() or 'no reason'}"
        return KernelFailed(message, hint=f"See {directory.file(records.ERRORS)}.")
    symbol = errno.errorcode.get(code, str(code))
    return KernelFailed(
        f"container {name!r} could not start, at {stage}: {os.strerror(code)} ({symbol})",
        hint=_HINTS.get(stage),
        details={"stage": stage, "errno": symbol},
    )
