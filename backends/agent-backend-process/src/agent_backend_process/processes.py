"""Processes of this host: their identity, their descendants, and signals that never go astray.

A process is the pair (pid, start time in clock ticks since boot), since a pid alone is given again
to others. This module is shared with the shim and imports next to nothing.
"""

# pathlib doubles the time that the shim takes to start.
# ruff: noqa: PTH110, PTH208
from __future__ import annotations

# The module `signal` imports enum, which is half of the shim's start.
import _signal  # type: ignore[import-not-found]
import os

Process = tuple[int, int]

SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL = 17, 18, 1, 2, 9
SIGPIPE, SIGSTOP, SIGTERM, SIGXFSZ = 13, 19, 15, 25

_STOP_PASSES = 20
_READ = 1 << 20


def read_file(path: str) -> bytes | None:
    """Read a small file of proc or cgroup; None when it is gone or may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        chunks = []
        while chunk := os.read(fd, _READ):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError:
        return None
    finally:
        os.close(fd)


def boot_id() -> str:
    """Return the id of this boot of the host."""
    return (read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


def status(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and start time, or None when there is no such process."""
    data = read_file(f"/proc/{pid}/stat")
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[19])


def start_time(pid: int) -> int | None:
    """Return a living process's start time; None when it is gone or only a zombie."""
    seen = status(pid)
    return None if seen is None or seen[0] in "ZX" else seen[1]


def is_alive(process: Process) -> bool:
    """Say whether this very process lives; another with its pid does not count."""
    return start_time(process[0]) == process[1]


def open_process(process: Process) -> int | None:
    """Open a pidfd that surely means this process, or return None when it is gone."""
    try:
        fd = os.pidfd_open(process[0])
    except ProcessLookupError:
        return None
    if is_alive(process):
        return fd
    os.close(fd)
    return None


def send(process: Process, signal: int) -> bool:
    """Signal this very process; False when it is gone or may not be signalled."""
    fd = open_process(process)
    if fd is None:
        return False
    try:
        _signal.pidfd_send_signal(fd, signal)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def descendants(root: int) -> list[Process]:
    """List the living children of a process, their children, and so on."""
    found: list[Process] = []
    pending = [root]
    while pending:
        for child in _children(pending.pop()):
            start = start_time(child)
            if start is not None:
                found.append((child, start))
                pending.append(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children_by_scan(pid)
    lists = (read_file(f"/proc/{pid}/task/{task}/children") or b"" for task in tasks)
    return [int(child) for listed in lists for child in listed.split()]


def _children_by_scan(parent: int) -> list[int]:
    """Find children where the host's kernel was built without lists of them."""
    found = []
    for pid in all_pids():
        data = read_file(f"/proc/{pid}/stat")
        if data and int(data[data.rindex(b")") + 2 :].split()[1]) == parent:
            found.append(pid)
    return found


def all_pids() -> list[int]:
    """List the pids of all processes of this host."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def marked(marker: bytes) -> list[Process]:
    """List the living processes that were started with this ``KEY=value`` in their environment."""
    key, _, wanted = marker.partition(b"=")
    return [process for process, value in carrying(key) if value == wanted]


def carrying(key: bytes) -> list[tuple[Process, bytes]]:
    """List the living processes that were started with this variable, each with its value."""
    found: list[tuple[Process, bytes]] = []
    prefix = key + b"="
    for pid in all_pids():
        start = start_time(pid)
        environ = read_file(f"/proc/{pid}/environ") or b""
        if start is None or prefix not in environ:
            continue
        entries = [entry for entry in environ.split(b"\0") if entry.startswith(prefix)]
        found.extend(((pid, start), entry[len(prefix) :]) for entry in entries)
    return found


def kill_trees(roots: list[int], others: list[Process]) -> None:
    """Kill all descendants of `roots` and the `others` with theirs; the roots stay.

    All are stopped first, again and again until no new one shows, so that a process that keeps
    forking cannot outrun the kill.
    """
    stopped: set[Process] = set()
    for _ in range(_STOP_PASSES):
        seen = {process for pid in roots for process in descendants(pid)}
        for process in others:
            seen.update([process, *descendants(process[0])] if is_alive(process) else ())
        fresh = seen - stopped
        if not fresh:
            break
        for process in fresh:
            send(process, SIGSTOP)
        stopped |= fresh
    for process in stopped:
        send(process, SIGKILL)


def group_members(directory: str) -> list[Process]:
    """List the living processes of a cgroup and of those below it; none when it is gone."""
    found = []
    for path, _, _ in os.walk(directory):
        for pid in (read_file(path + "/cgroup.procs") or b"").split():
            start = start_time(int(pid))
            if start is not None:
                found.append((int(pid), start))
    return found


def kill_group(directory: str) -> None:
    """Kill the processes of a cgroup: at once where the host can, else after barring forks."""
    if _write(directory + "/cgroup.kill", b"1"):
        return
    _write(directory + "/pids.max", b"0")
    _write(directory + "/cgroup.freeze", b"1")
    for process in group_members(directory):
        send(process, SIGKILL)


def _write(path: str, data: bytes) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(fd, data)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
