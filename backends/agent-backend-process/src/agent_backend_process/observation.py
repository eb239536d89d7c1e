"""Looking at a container: what it does, as far as its files and the host's processes tell."""

from __future__ import annotations

from dataclasses import dataclass

from agent_backend_process import processes
from agent_backend_process.directory import ContainerDirectory, Identity, Stored
from agent_backend_process.processes import Process
from agent_core.contracts.backend import ContainerState, ExitStatus

_UNSEEN = ExitStatus(observed=False)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a container that exists.

    Attributes:
        stored: What was asked.
        state: What it does.
        identity: Who runs or ran; None before the start.
        exit: How it ended; None unless it has.
        supervised: Whether its shim lives.
        failure: Stage and errno of a main process that never began.
    """

    stored: Stored
    state: ContainerState
    identity: Identity | None = None
    exit: ExitStatus | None = None
    supervised: bool = False
    failure: str = ""


def observe(directory: ContainerDirectory) -> Observation:
    """Look at one container.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: when its files cannot be made out; nothing is known of it then.
    """
    stored = directory.stored()
    identity = directory.identity()
    ended = _recorded(directory, stored, identity)
    if ended is not None:
        return ended
    if identity is None:
        return Observation(stored, ContainerState.CREATED)
    supervised = is_this_boot(identity) and processes.is_alive(identity.shim)
    if supervised:
        return Observation(stored, ContainerState.RUNNING, identity, supervised=True)
    # The shim may have ended in good order since its record was looked for.
    ended = _recorded(directory, stored, identity)
    if ended is not None:
        return ended
    if leftovers(directory, stored, identity):
        return Observation(stored, ContainerState.RUNNING, identity)
    return Observation(stored, ContainerState.EXITED, identity, _UNSEEN)


def _recorded(
    directory: ContainerDirectory, stored: Stored, identity: Identity | None
) -> Observation | None:
    ending = directory.ending()
    if ending is None:
        return None
    state, status = ContainerState.EXITED, ending.status
    return Observation(stored, state, identity, status, failure=ending.failure)


def is_this_boot(identity: Identity) -> bool:
    """Say whether the processes named are of this boot; others' pids mean nothing now."""
    return identity.boot_id == processes.boot_id()


def leftovers(
    directory: ContainerDirectory, stored: Stored, identity: Identity | None
) -> list[Process]:
    """List the processes of a container that no shim looks after, as far as they can be found.

    They are found by their cgroup; without one by the main process and by the environment that all
    of the container's processes began with.
    """
    found = set(processes.group_members(stored.kill_group) if stored.kill_group else ())
    if identity is None:
        return sorted(found)
    if is_this_boot(identity):
        if processes.is_alive(identity.main):
            found.update([identity.main, *processes.descendants(identity.main[0])])
        if not stored.kill_group:
            found.update(processes.marked(directory.marker.encode()))
    return sorted(found)
