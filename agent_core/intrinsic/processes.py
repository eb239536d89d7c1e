"""Reading what processes and the whole node have used, from procfs.

A process that ended meanwhile is left out; None means that nothing could be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_UTIME, _CSTIME = 11, 14  # positions after the command's name, which may hold anything
_IDLE, _IOWAIT, _GUEST = 3, 4, 8


def cpu_seconds(proc: Path, pids: Iterable[int]) -> float | None:
    """Sum the CPU time of processes and of the children that they have waited for."""
    return _sum(_process_seconds(proc / str(pid)) for pid in pids)


def memory_bytes(proc: Path, pids: Iterable[int]) -> int | None:
    """Sum the memory of processes: each one's proportional share, or else what is resident."""
    total = _sum(_process_bytes(proc / str(pid)) for pid in pids)
    return None if total is None else int(total)


def node_cpu_seconds(proc: Path) -> float | None:
    """Read the time that all cores together were busy since boot."""
    for line in _lines(proc / "stat"):
        if line.startswith("cpu "):
            # Guest time is contained in user time already.
            ticks = [int(word) for word in line.split()[1:]][:_GUEST]
            return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / _TICKS
    return None


def node_memory(proc: Path) -> dict[str, int]:
    """Read the node's memory in bytes by the kernel's own names, such as ``MemTotal``."""
    found: dict[str, int] = {}
    for line in _lines(proc / "meminfo"):
        words = line.split()
        if len(words) == 3 and words[1].isdecimal():
            found[words[0].rstrip(":")] = int(words[1]) * 1024
    return found


def _sum(values: Iterable[float | None]) -> float | None:
    read = [value for value in values if value is not None]
    return sum(read) if read else None


def _process_seconds(directory: Path) -> float | None:
    try:
        fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return sum(int(fields[n]) for n in range(_UTIME, _CSTIME + 1)) / _TICKS
    except (OSError, ValueError, IndexError):
        return None


def _process_bytes(directory: Path) -> int | None:
    for line in _lines(directory / "smaps_rollup"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    try:
        return int((directory / "statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
