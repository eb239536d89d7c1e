"""Cgroups of the containers: found below the agent's own, made, and removed.

For each container one group in each hierarchy that serves: the unified one (cgroup v2), and of the
v1 hierarchies those that count processes, CPU time and memory. They measure and they kill, and
bound how many processes there are. Where the agent may not make groups there are none.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_V1_CONTROLLERS = ("pids", "cpuacct", "memory")
UNIFIED = "unified"
"""Key of the cgroup v2 directory, besides one for each controller enabled there."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy; `directory` is where this process is in it."""

    controllers: tuple[str, ...]
    directory: str
    version: int


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one container; `kill` is that by which all are killed, or empty."""

    by_controller: Mapping[str, str]
    kill: str = ""

    @property
    def directories(self) -> tuple[str, ...]:
        """Each directory once, that for killing first."""
        ordered = [self.kill, *self.by_controller.values()]
        return tuple(dict.fromkeys(path for path in ordered if path))


def hierarchies(own: str, mountinfo: str) -> Iterator[Hierarchy]:
    """Read which hierarchies serve, from the texts of /proc/self/cgroup and mountinfo."""
    paths: dict[frozenset[str], str] = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        paths[frozenset(names.split(",") if names else ())] = path
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, mount_point = (_unescape(item) for item in before.split(" ")[3:5])
        for controllers, path in paths.items():
            version = 1 if controllers else 2
            mounted = controllers <= set(options.split(",")) if controllers else True
            inside = _below(path, root)
            if kind == ("cgroup2" if version == 2 else "cgroup") and mounted and inside is not None:
                serving = tuple(name for name in _V1_CONTROLLERS if name in controllers)
                if serving or version == 2:
                    yield Hierarchy(serving, (mount_point + inside).rstrip("/"), version)


def _unescape(text: str) -> str:
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _below(path: str, root: str) -> str | None:
    """Return where a cgroup path lies below a mount of this root; None when it does not."""
    if root == "/":
        return path
    return path[len(root) :] if path == root or path.startswith(root + "/") else None


class CgroupTree:
    """The agent's own group in each hierarchy, and the containers' groups in it."""

    def __init__(self, parents: Sequence[Hierarchy]) -> None:
        self._parents = parents
        self._kill = next((p.directory for p in parents if _kills(p)), "")
        self._pids = next((p.directory for p in parents if _bounds_pids(p)), "")

    @classmethod
    def open(cls, name: str) -> CgroupTree:
        """Make the agent's own group wherever that is permitted."""
        own, mounts = Path("/proc/self/cgroup"), Path("/proc/self/mountinfo")
        try:
            found = tuple(hierarchies(own.read_text(), mounts.read_text()))
        except (OSError, ValueError):
            return cls(())
        ordered = sorted(found, key=lambda hierarchy: -hierarchy.version)
        return cls([parent for h in ordered if (parent := _made(h, name)) is not None])

    @property
    def kill_method(self) -> str:
        """How a container's group is killed: by the host's kernel, one by one, or not at all."""
        if not self._kill:
            return ""
        return "cgroup.kill" if Path(self._kill, "cgroup.kill").exists() else "cgroup.procs"

    @property
    def bounds_pids(self) -> bool:
        """Whether the number of a container's processes can be bounded."""
        return bool(self._pids)

    def bound_pids(self, name: str, most: int) -> None:
        """Bound the processes and threads of a container whose groups are made."""
        Path(self._pids_max(name)).write_text(str(most))

    def pids_bound(self, name: str) -> int | None:
        """Read the bound; None when there is none."""
        text = Path(self._pids_max(name)).read_text().strip()
        return int(text) if text.isdigit() else None

    def _pids_max(self, name: str) -> str:
        return f"{self._pids}/c-{name}/pids.max"

    def groups(self, name: str) -> Groups:
        """Name the groups of one container, whether or not they exist."""
        by_controller: dict[str, str] = {}
        for parent in self._parents:
            directory = f"{parent.directory}/c-{name}"
            for controller in parent.controllers:
                by_controller.setdefault(controller, directory)
        kill = f"{self._kill}/c-{name}" if self._kill else ""
        return Groups(by_controller, kill)

    def names(self) -> list[str]:
        """List the containers that have a group in which they are killed."""
        if not self._kill:
            return []
        return [path.name.removeprefix("c-") for path in Path(self._kill).glob("c-*")]

    def make(self, name: str) -> Groups:
        """Make the groups of one container.

        Raises:
            OSError: when one cannot be made; those made before are left for `remove`.
        """
        groups = self.groups(name)
        for directory in groups.directories:
            Path(directory).mkdir(mode=0o755, exist_ok=True)
        return groups

    def prune(self, known: set[str]) -> None:
        """Remove empty groups that belong to no container."""
        for parent in self._parents:
            for path in Path(parent.directory).glob("c-*"):
                if path.name.removeprefix("c-") not in known:
                    remove((str(path),))

    def close(self) -> None:
        """Remove the agent's own groups where no container is left in them."""
        for parent in self._parents:
            with contextlib.suppress(OSError):
                Path(parent.directory).rmdir()


def remove(directories: Sequence[str]) -> list[str]:
    """Remove groups with those below them; returns those in which processes are left."""
    busy = []
    for directory in directories:
        for path, _, _ in os.walk(directory, topdown=False):
            try:
                Path(path).rmdir()
            except FileNotFoundError:
                continue
            except OSError as exc:
                if exc.errno != errno.EBUSY:
                    raise
                busy.append(path)
    return busy


def _made(hierarchy: Hierarchy, name: str) -> Hierarchy | None:
    """Make the agent's group in a hierarchy; None where containers cannot be put into it."""
    path = Path(hierarchy.directory, name)
    controllers = hierarchy.controllers
    try:
        path.mkdir(mode=0o755, exist_ok=True)
        if hierarchy.version == 2:
            enabled = (path / "cgroup.controllers").read_text().split()
            controllers = (UNIFIED, *enabled)
    except OSError:
        return None
    # Moving a process needs the right to write to where it comes from, too.
    writable = (Path(hierarchy.directory, "cgroup.procs"), path / "cgroup.procs")
    if not all(os.access(procs, os.W_OK) for procs in writable):
        with contextlib.suppress(OSError):
            path.rmdir()
        return None
    return Hierarchy(controllers, str(path), hierarchy.version)


def _kills(parent: Hierarchy) -> bool:
    """Say whether all of a group can be killed, also when it keeps forking."""
    return parent.version > 1 or "pids" in parent.controllers


def _bounds_pids(parent: Hierarchy) -> bool:
    """Say whether groups below this one can bound their processes; asks cgroup v2 for it."""
    if parent.version == 1:
        return "pids" in parent.controllers and os.access(f"{parent.directory}/pids.max", os.W_OK)
    control = Path(parent.directory, "cgroup.subtree_control")
    try:
        control.write_text("+pids")
        return "pids" in control.read_text().split()
    except OSError:
        return False
