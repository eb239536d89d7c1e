"""Processes of containers whose directory is gone: removed by hand, or lost with a disk; blocks.

They are found by their cgroup; without one by the environment that all of a container's processes
began with, which names the directory and with it this agent alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent_backend_process import ending, processes
from agent_backend_process.cgroups import CgroupTree
from agent_backend_process.directory import MARKER, ContainerDirectory
from agent_backend_process.processes import Process
from agent_core.contracts.backend import ContainerState, ContainerStatus

_SCAN_PERIOD: Final = 60.0
"""Seconds between two looks at the environments of all processes of the host, which cost."""

_REMEMBERED: Final = 10_000


class Strays:
    """Finds and kills what no directory tells of.

    Args:
        root: Where the directories of the containers are.
        tree: Where their cgroups are.
        clock: Seconds that never go back.
    """

    def __init__(
        self, root: Path, tree: CgroupTree, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._tree = tree
        self._clock = clock
        self._removed: dict[str, None] = {}
        self._scanned: float | None = None
        self._found: dict[str, list[Process]] = {}

    def removed(self, name: str) -> None:
        """Remember that a container was removed in good order: nothing of it has to be sought."""
        self._removed[name] = None
        if len(self._removed) > _REMEMBERED:
            del self._removed[next(iter(self._removed))]

    def created(self, name: str) -> None:
        """Forget that a container of this name was removed."""
        self._removed.pop(name, None)

    def of(self, name: str) -> list[Process]:
        """List the processes of one container that has no directory."""
        group = self._tree.groups(name).kill
        if group:
            return processes.group_members(group)
        if name in self._removed:
            return []
        return processes.marked(ContainerDirectory(self._root / name).marker.encode())

    def all(self) -> Mapping[str, list[Process]]:
        """List the processes of all containers that have no directory, by the container's name."""
        found = self._in_groups() if self._tree.kill_method else self._marked()
        # Looked for last of all, so that what is just being started is not taken for a stray.
        lost = {name: left for name, left in found.items() if not (self._root / name).exists()}
        alive = {n: [each for each in left if processes.is_alive(each)] for n, left in lost.items()}
        return {name: left for name, left in alive.items() if left}

    def kill(self, name: str, patience: float) -> list[Process]:
        """Kill the processes of a container that has no directory; returns what does not go."""
        return ending.kill_found(lambda: self.of(name), self._tree.groups(name).kill, patience)

    def _in_groups(self) -> dict[str, list[Process]]:
        return {name: self.of(name) for name in self._tree.names()}

    def _marked(self) -> dict[str, list[Process]]:
        now = self._clock()
        if self._scanned is None or now - self._scanned >= _SCAN_PERIOD:
            self._found, self._scanned = self._scan(), now
        return self._found

    def _scan(self) -> dict[str, list[Process]]:
        found: dict[str, list[Process]] = {}
        for process, value in processes.carrying(MARKER.encode()):
            root, _, name = os.fsdecode(value).rpartition("/")
            if root == str(self._root):
                found.setdefault(name, []).append(process)
        return found


def stray_status(owner: str, name: str, left: Sequence[Process]) -> ContainerStatus:
    """Tell of a container of which there are processes and nothing else."""
    now = time.monotonic()
    return ContainerStatus(
        name=name,
        owner=owner,
        state=ContainerState.RUNNING,
        began=now,
        ended=now,
        reason=f"its directory is gone, its processes {[pid for pid, _ in left]} are not",
    )
