"""What this backend refuses before it takes anything, since it could not honour it.

A process has no view of its own: it sees the host's files and devices. So a mount or a device node
is honoured when it is already where it should be, and refused elsewhere.
"""

from __future__ import annotations

import grp
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from agent_core.contracts.backend import ContainerSpec
from agent_core.contracts.edits import ConfigFile, ContainerEdits, Permission
from agent_core.contracts.errors import InvalidSpec, Unsupported, bullet_list

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def check(spec: ContainerSpec) -> None:
    """Refuse what cannot be done, naming all of it.

    Raises:
        InvalidSpec: when the spec itself is malformed.
        Unsupported: when its edits ask for more than a plain process can have.
    """
    faults = list(_malformed(spec))
    if faults:
        message = f"container {spec.name!r}: {bullet_list(faults)}"
        raise InvalidSpec(message, details={"faults": faults})
    refused = [*_foreign_views(spec), *_foreign_rights(spec.edits)]
    if refused:
        raise Unsupported(
            f"backend 'process' cannot run container {spec.name!r}: {bullet_list(refused)}",
            hint="A process sees the host as it is; use a container backend for what needs more.",
            details={"faults": refused},
        )


def is_name(name: str) -> bool:
    """Say whether a container may have this name, which also names its directory and cgroups."""
    return _NAME.fullmatch(name) is not None


def _malformed(spec: ContainerSpec) -> Iterator[str]:
    if not is_name(spec.name):
        yield f"name {spec.name!r} is not 1 to 200 letters, digits and '_.-'"
    if not spec.argv or not spec.argv[0].startswith("/"):
        yield "argv begins with no absolute path"
    if not spec.cwd.startswith("/"):
        yield f"working directory {spec.cwd!r} is not an absolute path"
    if any("\0" in item for item in (*spec.argv, spec.cwd, *spec.env, *spec.env.values())):
        yield "argv, cwd or env holds a NUL character"
    for key in spec.env:
        if not key or "=" in key:
            yield f"environment key {key!r} is empty or holds '='"


def _foreign_views(spec: ContainerSpec) -> Iterator[str]:
    """Name what would have to be somewhere else than it is on the host."""
    edits = spec.edits
    for mount in edits.mounts:
        if os.path.normpath(mount.source) != os.path.normpath(mount.target):
            yield f"mount of {mount.source} at another path, {mount.target}"
        elif not Path(mount.source).exists():
            yield f"mount of {mount.source}, which does not exist"
    for node in edits.device_nodes:
        if node.path != node.host_path:
            yield f"device {node.host_path} at another path, {node.path}"
    for file in edits.files:
        if not _is_own(file, spec):
            yield f"file {file.path}, which is in none of the container's own directories"
    for field_name in ("networks", "hooks", "cdi_names", "device_requests"):
        if getattr(edits, field_name):
            yield f"{field_name.replace('_', ' ')} ({len(getattr(edits, field_name))})"


def _is_own(file: ConfigFile, spec: ContainerSpec) -> bool:
    """Say whether a file lies where only this container's files are, also by its real path."""
    own = [spec.cwd]
    own += [m.target for m in spec.edits.mounts if m.permission is not Permission.RO]
    folder = os.path.realpath(Path(file.path).parent)
    roots = (os.path.realpath(path) for path in own)
    inside = any(folder == root or folder.startswith(root + "/") for root in roots)
    return inside and file.path == os.path.normpath(file.path)


def _foreign_rights(edits: ContainerEdits) -> Iterator[str]:
    """Name what this agent has not the right to give."""
    for name, value in edits.rlimits.items():
        number = limit_number(name)
        if number is None:
            yield f"rlimit {name!r}, which this host does not know"
        elif os.geteuid() and exceeds(value, resource.getrlimit(number)[1]):
            yield f"rlimit {name}={value} above the agent's own hard limit"
    for group in edits.groups:
        number = group_id(group)
        if number is None:
            yield f"group {group!r}, which this host does not know"
        elif os.geteuid() and number not in (os.getegid(), *os.getgroups()):
            yield f"group {group!r}, of which the agent is no member"


def exceeds(value: int, limit: int) -> bool:
    """Compare two resource limits, of which -1 is unlimited."""
    return limit != resource.RLIM_INFINITY and (value < 0 or value > limit)


def limit_number(name: str) -> int | None:
    """Return the host's number of a resource limit, or None when it has none of that name."""
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    return number if isinstance(number, int) else None


def group_id(group: str) -> int | None:
    """Return the id of a group given by name or number, or None when there is none."""
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None
