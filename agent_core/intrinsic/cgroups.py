"""Reading what a control group has used.

The directories come by controller, as in `Subject.cgroups`. In version 1 each controller has its
own; in version 2 all controllers are one directory, given under each controller's name or once
under ``unified``. Which version a directory is of shows in the files that it has. None means that
nothing could be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

UNIFIED = "unified"


def cpu_seconds(cgroups: Mapping[str, str]) -> float | None:
    """Read the CPU time used by all processes that are or were in the group."""
    for directory in _directories(cgroups, "cpuacct", "cpu"):
        micros = _flat(directory / "cpu.stat").get("usage_usec")
        if micros is not None:
            return micros / 1e6
        nanos = _number(directory / "cpuacct.usage")
        if nanos is not None:
            return nanos / 1e9
    return None


def memory_bytes(cgroups: Mapping[str, str]) -> int | None:
    """Read the working set: what is charged, without the file cache that can go at once."""
    files = (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file"))
    for directory in _directories(cgroups, "memory"):
        for charged, idle in files:
            current = _number(directory / charged)
            if current is not None:
                return max(0, current - _flat(directory / "memory.stat").get(idle, 0))
    return None


def _directories(cgroups: Mapping[str, str], *controllers: str) -> Iterator[Path]:
    for controller in (*controllers, UNIFIED):
        if controller in cgroups:
            yield Path(cgroups[controller])


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _flat(path: Path) -> dict[str, int]:
    """Read a file of ``key number`` lines; what is not such a line is left out."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdecimal()}
