"""Comparing a container that runs with what was promised, as the host's kernel has it.

The engine's own word is taken for what the kernel does not tell: networks, labels and requests.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent_backend_docker.handles import UNIFIED
from agent_core.contracts.backend import Handles
from agent_core.contracts.edits import ContainerEdits, Permission

_WHOLE: Final = 1000
"""Millicores of one core."""

_PAGE: Final = 4096
"""The kernel rounds bounds of memory down to whole pages."""


def differences(shown: Mapping[str, Any], handles: Handles, edits: ContainerEdits) -> list[str]:
    """Name everything that is not as the edits have it."""
    return [
        *_environment(shown, edits),
        *_rlimits(handles.init_pid, edits),
        *_bounds(handles.cgroups, edits),
        *_cores(handles.cgroups, edits),
        *_mounts(handles.init_pid, edits),
        *_devices(handles.init_pid, edits),
        *_groups(handles.init_pid, edits),
        *_joined(shown, edits),
        *_labelled(shown, edits),
    ]


def _environment(shown: Mapping[str, Any], edits: ContainerEdits) -> Iterator[str]:
    entries = shown.get("Config", {}).get("Env") or []
    env = dict(entry.partition("=")[::2] for entry in entries)
    for name, value in edits.env.items():
        if env.get(name) != value:
            yield f"env {name}: promised {value!r}, is {env.get(name)!r}"
    lists = {**edits.path_env, **({"LD_PRELOAD": edits.preload} if edits.preload else {})}
    for name, values in lists.items():
        if missing := [v for v in values if v not in env.get(name, "").split(":")]:
            yield f"env {name}: {':'.join(missing)} is missing"


def _rlimits(pid: int, edits: ContainerEdits) -> Iterator[str]:
    for name, value in edits.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        present = None if number is None else resource.prlimit(pid, number)[0]
        if present != value:
            yield f"rlimit {name}: promised {value}, is {present}"


def _bounds(cgroups: Mapping[str, str], edits: ContainerEdits) -> Iterator[str]:
    limits = edits.limits
    readers = {"cpus": _cpus, "memory": _memory, "pids": _pids}
    for name, read in readers.items():
        promised = limits.get(name)
        present = read(cgroups) if promised else promised
        if present != promised and not (name == "memory" and _same_pages(present, promised)):
            yield f"limit {name}: promised {promised}, is {present}"


def _same_pages(present: int | None, promised: int | None) -> bool:
    return present is not None and promised is not None and present == promised // _PAGE * _PAGE


def _cpus(cgroups: Mapping[str, str]) -> int | None:
    unified = _words(cgroups, UNIFIED, "cpu.max")
    quota = _number(cgroups, "cpu", "cpu.cfs_quota_us")
    period = _number(cgroups, "cpu", "cpu.cfs_period_us")
    if len(unified) == 2 and unified[0].isdecimal():
        quota, period = int(unified[0]), int(unified[1])
    if quota is None or period is None or quota < 0:
        return None
    return quota * _WHOLE // period


def _memory(cgroups: Mapping[str, str]) -> int | None:
    unified = _number(cgroups, UNIFIED, "memory.max")
    return unified or _number(cgroups, "memory", "memory.limit_in_bytes")


def _pids(cgroups: Mapping[str, str]) -> int | None:
    return _number(cgroups, UNIFIED, "pids.max") or _number(cgroups, "pids", "pids.max")


def _cores(cgroups: Mapping[str, str], edits: ContainerEdits) -> Iterator[str]:
    if edits.cpuset is None:
        return
    for promised, names in (
        (edits.cpuset.cpus, ("cpuset.cpus", "cpuset.cpus.effective")),
        (edits.cpuset.mems, ("cpuset.mems", "cpuset.mems.effective")),
    ):
        present = _numbers(cgroups, names)
        if promised and present != {*promised}:
            yield f"{names[0]}: promised {sorted(promised)}, is {sorted(present)}"


def _numbers(cgroups: Mapping[str, str], names: tuple[str, str]) -> set[int]:
    texts = [*_words(cgroups, "cpuset", names[0]), *_words(cgroups, UNIFIED, names[1])]
    found: set[int] = set()
    for part in (texts[0] if texts else "").split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found |= {*range(int(first), int(last or first) + 1)}
    return found


def _words(cgroups: Mapping[str, str], controller: str, name: str) -> list[str]:
    if controller not in cgroups:
        return []
    try:
        return (Path(cgroups[controller]) / name).read_text().split()
    except OSError:
        return []


def _number(cgroups: Mapping[str, str], controller: str, name: str) -> int | None:
    words = _words(cgroups, controller, name)
    return int(words[0]) if words and words[0].lstrip("-").isdecimal() else None


def _mounts(pid: int, edits: ContainerEdits) -> Iterator[str]:
    if not edits.mounts:
        return
    options = _mounted(pid)
    for mount in edits.mounts:
        present = options.get(mount.target)
        if present is None:
            yield f"mount {mount.target}: not there"
        elif (mount.permission is Permission.RO) is not ("ro" in present):
            yield f"mount {mount.target}: promised {mount.permission}, is {','.join(present)}"


def _mounted(pid: int) -> dict[str, list[str]]:
    """Read the options of all mount points that a process sees (proc(5), mountinfo)."""
    found = {}
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        target = fields[4].encode().decode("unicode_escape").encode("latin-1").decode()
        found[target] = fields[5].split(",")
    return found


def _devices(pid: int, edits: ContainerEdits) -> Iterator[str]:
    for node in edits.device_nodes:
        inside = Path(f"/proc/{pid}/root{node.path}")
        try:
            same = inside.stat().st_rdev == Path(node.host_path).stat().st_rdev
        except OSError as exc:
            yield f"device {node.path}: {exc.strerror}"
            continue
        if not same:
            yield f"device {node.path}: is another than {node.host_path}"


def _groups(pid: int, edits: ContainerEdits) -> Iterator[str]:
    numbers = {group for group in edits.groups if group.isdecimal()}
    if not numbers:
        return
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    lines = (line.split()[1:] for line in status if line.startswith(("Groups:", "Gid:")))
    present = {group for line in lines for group in line}
    for group in sorted(numbers - present):
        yield f"group {group}: not there"


def _joined(shown: Mapping[str, Any], edits: ContainerEdits) -> Iterator[str]:
    networks = shown.get("NetworkSettings", {}).get("Networks") or {}
    for network in edits.networks:
        if network not in networks:
            yield f"network {network}: not joined"


def _labelled(shown: Mapping[str, Any], edits: ContainerEdits) -> Iterator[str]:
    labels = shown.get("Config", {}).get("Labels") or {}
    for name, value in edits.labels.items():
        if labels.get(name) != value:
            yield f"label {name}: promised {value!r}, is {labels.get(name)!r}"
