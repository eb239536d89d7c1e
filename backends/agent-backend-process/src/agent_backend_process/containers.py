"""All containers of one agent on disk: making, finding and removing them; blocks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from agent_backend_process import admission, cgroups, ending, records
from agent_backend_process.cgroups import CgroupTree, Groups
from agent_backend_process.directory import MARKER, ContainerDirectory, Stored
from agent_backend_process.launch import Launch
from agent_backend_process.observation import observe
from agent_backend_process.strays import Strays
from agent_core.contracts.backend import ContainerSpec, ContainerState
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import Conflict, InvalidSpec, KernelFailed, WrongState

NAME_MARKER = "AGENT_CONTAINER"
"""Environment variable of every process of a container: its name."""

_PERIOD = 0.02
_NOWHERE = ".nowhere"


class Containers:
    """The directories and cgroups of one agent's containers.

    Args:
        root: Where their directories are.
        tree: Where their cgroups are.
        pids_limit: The most processes of one container, where that can be bounded; 0 for no bound.
    """

    def __init__(self, root: Path, tree: CgroupTree, pids_limit: int = 0) -> None:
        self._root = root
        self._tree = tree
        self.strays = Strays(root, tree)
        self._pids_limit = pids_limit
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in root.glob(".*"):  # what a crash left half made or half removed
            shutil.rmtree(path, ignore_errors=True)
        tree.prune({directory.name for directory in self.all()})

    def all(self) -> list[ContainerDirectory]:
        """List all, by name."""
        names = sorted(name for name in os.listdir(self._root) if not name.startswith("."))  # noqa: PTH208 - names are all that is needed
        return [self.at(name) for name in names]

    def at(self, name: str) -> ContainerDirectory:
        """Return where a container is or would be; what is no name leads nowhere."""
        return ContainerDirectory(self._root / (name if admission.is_name(name) else _NOWHERE))

    def create(self, spec: ContainerSpec) -> None:
        """Make a container, or do nothing when the same exists.

        Raises:
            InvalidSpec: when the spec is malformed.
            Unsupported: when it needs what a process cannot have; nothing was taken.
            Conflict: when another container has its name.
        """
        admission.check(spec)
        directory, fingerprint = self.at(spec.name), _fingerprint(spec)
        if directory.exists():
            _require_same(directory, fingerprint)
            return
        self.strays.created(spec.name)
        try:
            self._make(spec, fingerprint, directory)
        except OSError as exc:
            self._discard(spec)
            raise KernelFailed(f"container {spec.name!r} could not be created: {exc}") from exc

    def _make(self, spec: ContainerSpec, fingerprint: str, directory: ContainerDirectory) -> None:
        groups = self._tree.make(spec.name)
        most = self._most_pids(spec.edits)
        if most is not None:
            self._tree.bound_pids(spec.name, most)
        fresh = ContainerDirectory(self._root / f".{spec.name}.new")
        shutil.rmtree(fresh.path, ignore_errors=True)
        fresh.path.mkdir(mode=0o700)
        stored = Stored(
            name=spec.name,
            owner=spec.owner,
            image=spec.image,
            record=spec.record,
            fingerprint=fingerprint,
            log_limit=spec.log_limit,
            cgroups=dict(groups.by_controller),
            kill_group=groups.kill,
            files=tuple(file.path for file in spec.edits.files),
        )
        fresh.write(stored, _launch(spec, groups, directory).encode())
        for file in spec.edits.files:
            records.replace_file(file.path, file.content, file.mode)
            Path(file.path).chmod(file.mode)
        fresh.path.rename(directory.path)

    def _most_pids(self, edits: ContainerEdits) -> int | None:
        """Return the lowest bound that is asked for; None where there is none, or none can be."""
        own = {"pids": self._pids_limit} if self._pids_limit else {}
        asked = [limits["pids"] for limits in (own, edits.limits) if "pids" in limits]
        return min(asked) if asked and self._tree.bounds_pids else None

    def differences(self, name: str, edits: ContainerEdits) -> Iterator[str]:
        """Name what a container's cgroups have otherwise than promised."""
        promised = self._most_pids(edits)
        if promised is None:
            return
        try:
            present = self._tree.pids_bound(name)
        except OSError as exc:
            yield f"limit pids: cannot be looked at: {exc}"
            return
        if present is None or present > promised:
            yield f"limit pids: promised {promised}, is {present}"

    def _discard(self, spec: ContainerSpec) -> None:
        """Take back what a create that failed has made."""
        for file in spec.edits.files:
            Path(file.path).unlink(missing_ok=True)
        shutil.rmtree(self._root / f".{spec.name}.new", ignore_errors=True)
        cgroups.remove(self._tree.groups(spec.name).directories)

    def remove(self, name: str, patience: float) -> None:
        """Remove a container that has ended, or what a crash left of it.

        Raises:
            WrongState: when a process of it is still there; nothing was removed.
        """
        directory = self.at(name)
        if not directory.exists():
            left = self.strays.kill(name, patience)
            if left:
                raise ending.still_there(directory, left)
            cgroups.remove(self._tree.groups(name).directories)
            return
        with _locked(directory, patience):
            seen = observe(directory)
            if seen.state is ContainerState.RUNNING:
                left = ending.kill_leftovers(directory, seen, patience)
                if left:
                    raise ending.still_there(directory, left)
            stored = seen.stored
            groups = Groups(stored.cgroups, stored.kill_group).directories
            _remove_groups(directory, groups, patience)
            for path in stored.files:
                with contextlib.suppress(OSError):
                    Path(path).unlink()
            gone = self._root / f".{name}.gone"
            directory.path.rename(gone)
        self.strays.removed(name)
        shutil.rmtree(gone)


def _require_same(directory: ContainerDirectory, fingerprint: str) -> None:
    try:
        same = directory.stored().fingerprint == fingerprint
    except ValueError as exc:
        message = f"container {directory.name!r} exists and cannot be made out: {exc}"
        raise Conflict(message, hint=f"Look at {directory.path}.") from exc
    if not same:
        raise Conflict(
            f"container {directory.name!r} exists and was created from another spec",
            hint="Remove it first, or choose another name.",
        )


def _launch(spec: ContainerSpec, groups: Groups, directory: ContainerDirectory) -> Launch:
    edits, launch = spec.edits, Launch()
    env = {**spec.env, NAME_MARKER: spec.name, MARKER: str(directory.path)}
    if edits.preload:
        below = (spec.env["LD_PRELOAD"],) if spec.env.get("LD_PRELOAD") else ()
        env["LD_PRELOAD"] = ":".join((*edits.preload, *below))
    launch.argv = [os.fsencode(item) for item in spec.argv]
    launch.env = [os.fsencode(f"{key}={value}") for key, value in env.items()]
    launch.cwd = os.fsencode(spec.cwd)
    launch.log_limit = spec.log_limit
    launch.kill_group = os.fsencode(groups.kill)
    launch.cgroups = [os.fsencode(path) for path in groups.directories]
    launch.cpus = list(edits.cpuset.cpus) if edits.cpuset else []
    launch.groups = _new_groups(edits.groups)
    numbers = {name: admission.limit_number(name) for name in edits.rlimits}
    launch.rlimits = {n: edits.rlimits[name] for name, n in numbers.items() if n is not None}
    return launch


def _new_groups(groups: tuple[str, ...]) -> list[int]:
    """Name the groups that are not the agent's already, which is all that only root can add."""
    known = {os.getegid(), *os.getgroups()}
    return [n for n in map(admission.group_id, groups) if n is not None and n not in known]


def _fingerprint(spec: ContainerSpec) -> str:
    try:
        content = json.dumps(_plain(spec), sort_keys=True).encode()
    except (TypeError, ValueError) as exc:
        raise InvalidSpec(f"container {spec.name!r}: its record is no plain data: {exc}") from exc
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


@contextlib.contextmanager
def _locked(directory: ContainerDirectory, patience: float) -> Iterator[None]:
    """Hold the lock that a shim holds for life, so that none is there and none can begin."""
    fd = os.open(directory.file(records.LOCK), os.O_RDWR)
    deadline = time.monotonic() + patience
    try:
        while not _try_lock(fd):
            if time.monotonic() > deadline:
                raise WrongState(f"the shim of container {directory.name!r} is still there")
            directory.order("kill")
            time.sleep(_PERIOD)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_groups(directory: ContainerDirectory, groups: tuple[str, ...], patience: float) -> None:
    """Remove the cgroups; a process that has just ended may hold one for a moment."""
    deadline = time.monotonic() + patience
    while busy := cgroups.remove(groups):
        if time.monotonic() > deadline:
            raise WrongState(
                f"cgroups of container {directory.name!r} are still in use: {busy}",
                hint="Some process is in them; `cat` their cgroup.procs.",
            )
        time.sleep(_PERIOD)
