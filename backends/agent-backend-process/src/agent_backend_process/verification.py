"""Comparing a running main process with what was promised to it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent_backend_process.admission import limit_number
from agent_core.contracts.edits import ContainerEdits

_TRIES = 100
_PERIOD = 0.005


def differences(pid: int, edits: ContainerEdits) -> Iterator[str]:
    """Name what a process has otherwise than these edits say; what cannot be read is named too.

    Limits on CPU time and memory, device nodes, memory nodes and system calls are not compared:
    this backend declares that it enforces none of them.
    """
    try:
        environ = _environment(pid)
        yield from _environment_differences(environ, edits)
        yield from _core_differences(pid, edits)
        yield from _rlimit_differences(pid, edits)
    except OSError as exc:
        yield f"process {pid} cannot be looked at: {exc}"
    yield from _file_differences(edits)


def _environment(pid: int) -> dict[str, str]:
    """Read the environment, which no container has empty; it looks so in the middle of an exec."""
    path = Path(f"/proc/{pid}/environ")
    for _ in range(_TRIES):
        content = os.fsdecode(path.read_bytes())
        if content:
            break
        time.sleep(_PERIOD)
    return dict(item.partition("=")[::2] for item in content.split("\0") if item)


def _environment_differences(environ: Mapping[str, str], edits: ContainerEdits) -> Iterator[str]:
    for key, value in edits.env.items():
        if environ.get(key) != value:
            yield f"env {key}: promised {value!r}, is {environ.get(key)!r}"
    paths = {**edits.path_env, **({"LD_PRELOAD": edits.preload} if edits.preload else {})}
    for key, entries in paths.items():
        present = environ.get(key, "").split(":")
        missing = [entry for entry in entries if entry not in present]
        if missing:
            yield f"env {key}: lacks {', '.join(missing)}"


def _core_differences(pid: int, edits: ContainerEdits) -> Iterator[str]:
    if edits.cpuset is not None:
        cores = os.sched_getaffinity(pid)
        if cores != set(edits.cpuset.cpus):
            yield f"cores: promised {sorted(edits.cpuset.cpus)}, is {sorted(cores)}"


def _rlimit_differences(pid: int, edits: ContainerEdits) -> Iterator[str]:
    for name, value in edits.rlimits.items():
        number = limit_number(name)
        present = None if number is None else resource.prlimit(pid, number)[0]
        if present != value:
            yield f"rlimit {name}: promised {value}, is {present}"


def _file_differences(edits: ContainerEdits) -> Iterator[str]:
    for file in edits.files:
        try:
            same = Path(file.path).read_bytes() == file.content
        except OSError as exc:
            yield f"file {file.path}: {exc.strerror}"
            continue
        if not same:
            yield f"file {file.path}: its content is another"
    for mount in edits.mounts:
        if not Path(mount.target).exists():
            yield f"mount {mount.target}: not there"
