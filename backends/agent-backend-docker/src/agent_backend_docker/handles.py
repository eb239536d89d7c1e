"""A container's own objects in the host's kernel: its processes and its cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent_core.contracts.backend import Handles

UNIFIED: Final = "unified"

_CGROUPS: Final = Path("/sys/fs/cgroup")
_START_TIME: Final = 19
"""The place of the start time among the fields of /proc/PID/stat behind the command's name."""


def handles_of(pid: int, container: str) -> Handles | None:
    """Name what belongs to a container by its first process and its id; None when that has gone.

    Its processes are those of its cgroup, which none of them can leave. A process that has ended
    stands in the cgroup of the whole host: only what bears the container's id is its own.
    """
    try:
        start = _start_time(pid)
        cgroups = {k: path for k, path in cgroups_of(pid).items() if container in path}
    except (OSError, ValueError):
        return None
    if not cgroups:
        return None
    return Handles(pid, start, cgroups, tuple(sorted({pid, *_members(cgroups)})))


def cgroups_of(pid: int) -> dict[str, str]:
    """Find a process's cgroup directories by controller; ``unified`` is that of version 2."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.removeprefix("name=").split(","):
            directory = _directory(controller, path)
            if directory.is_dir():
                found[controller or UNIFIED] = str(directory)
    return found


def _directory(controller: str, path: str) -> Path:
    below = path.lstrip("/")
    if controller:
        return _CGROUPS / controller / below
    unified = _CGROUPS / UNIFIED
    return (unified if unified.is_dir() else _CGROUPS) / below


def _members(cgroups: dict[str, str]) -> list[int]:
    top = cgroups.get("pids") or cgroups.get("memory") or cgroups.get(UNIFIED)
    if top is None:
        return []
    lists = Path(top).rglob("cgroup.procs")
    return [int(pid) for each in lists for pid in _read(each).split() if pid != "0"]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _start_time(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[_START_TIME])
