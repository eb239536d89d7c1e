"""Ending a container whose shim cannot: it is gone, or does not obey; blocks."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

from agent_backend_process import processes
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.observation import Observation, is_this_boot, leftovers, observe
from agent_backend_process.processes import Process
from agent_core.contracts.backend import ContainerState
from agent_core.contracts.errors import WrongState

_PERIOD = 0.02


def ask(directory: ContainerDirectory, grace: float) -> None:
    """Ask the main process to end, and wait for so many seconds at most; 0 does not ask."""
    identity = directory.identity()
    if grace > 0 and identity is not None and is_this_boot(identity):
        processes.send(identity.main, processes.SIGTERM)
        wait_for(identity.main, grace)


def force(directory: ContainerDirectory, patience: float) -> None:
    """Kill the shim and all processes of a container; returns once they are gone.

    Args:
        directory: The container.
        patience: Seconds to wait for what was killed.

    Raises:
        WrongState: when some process is still there; its exit is not recorded then.
    """
    seen = observe(directory)
    if seen.identity is None or seen.state is not ContainerState.RUNNING:
        return
    if seen.supervised:
        processes.send(seen.identity.shim, processes.SIGKILL)
        wait_for(seen.identity.shim, patience)
    left = kill_leftovers(directory, seen, patience)
    if left:
        raise still_there(directory, left)
    if directory.ending() is None:
        directory.record_inferred_exit()


def kill_leftovers(
    directory: ContainerDirectory, seen: Observation, patience: float
) -> list[Process]:
    """Kill what is left of a container without a shim; returns what does not go away."""

    def find() -> list[Process]:
        return leftovers(directory, seen.stored, seen.identity)

    return kill_found(find, seen.stored.kill_group, patience)


def kill_found(find: Callable[[], list[Process]], group: str, patience: float) -> list[Process]:
    """Kill what is found, again and again until nothing is; returns what does not go away.

    Args:
        find: Lists what is left.
        group: The cgroup by which all of it is killed; empty where there is none.
        patience: Seconds to wait for what was killed.
    """
    deadline = time.monotonic() + patience
    while left := find():
        if group:
            processes.kill_group(group)
        processes.kill_trees([], left)
        if time.monotonic() > deadline:
            return left
        wait_for(left[0], _PERIOD)
    return []


def wait_for(process: Process, seconds: float) -> None:
    """Wait until a process has ended, for so long at most."""
    fd = processes.open_process(process)
    if fd is None:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(fd)


def still_there(directory: ContainerDirectory, left: list[Process]) -> WrongState:
    """Name the processes that are in the way."""
    pids = [pid for pid, _ in left]
    return WrongState(
        f"processes of container {directory.name!r} are still there: {pids}",
        hint="They do not die of SIGKILL; look at them with `ps -o pid,stat,wchan,cmd`.",
        details={"pids": pids},
    )
