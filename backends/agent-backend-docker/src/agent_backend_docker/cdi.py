"""Devices by the Container Device Interface, for engines that do not know it.

The files are those of the CDI specification
(https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md): `cdiVersion`, `kind`,
`devices` with a name and `containerEdits`, and `containerEdits` for all of the file. What an engine
is asked for then is the same device nodes, mounts and variables; hooks it cannot run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_core.contracts.edits import ContainerEdits, DeviceNode, Mount, Permission
from agent_core.contracts.errors import Unsupported

_LARGEST: Final = 4 << 20

Table = Mapping[str, Any]


def resolve(names: Sequence[str], directories: Sequence[str]) -> ContainerEdits:
    """Find what these devices need, in the files of this host; a later directory wins.

    Raises:
        Unsupported: when no file has one of them, or it needs a hook.
    """
    kinds = {str(spec.get("kind", "")): spec for spec in _files(directories)}
    edits: list[Table] = []
    for name in names:
        kind, _, device = name.partition("=")
        spec = kinds.get(kind)
        found = [d for d in (spec or {}).get("devices", []) if d.get("name") == device]
        if spec is None or not found:
            raise Unsupported(
                f"CDI device {name!r} is in no file of {', '.join(directories)}",
                hint="Write the vendor's CDI file, or use an engine with CDI of its own.",
            )
        edits += [spec.get("containerEdits") or {}, found[0].get("containerEdits") or {}]
    return _joined(names, edits)


def _joined(names: Sequence[str], parts: Sequence[Table]) -> ContainerEdits:
    if any(part.get("hooks") for part in parts):
        raise Unsupported(
            f"CDI device {', '.join(names)} needs hooks, which this engine cannot run",
            hint="Use an engine with CDI of its own, or let the plugin use device requests.",
        )
    nodes = {node.path: node for part in parts for node in _nodes(part)}
    mounts = {mount.target: mount for part in parts for mount in _mounts(part)}
    env = dict(entry.partition("=")[::2] for part in parts for entry in part.get("env") or [])
    return ContainerEdits(
        env=env, device_nodes=tuple(nodes.values()), mounts=tuple(mounts.values())
    )


def _nodes(part: Table) -> Iterator[DeviceNode]:
    for node in part.get("deviceNodes") or []:
        path = str(node["path"])
        yield DeviceNode(path, str(node.get("hostPath") or path), node.get("permissions") or "rwm")


def _mounts(part: Table) -> Iterator[Mount]:
    for mount in part.get("mounts") or []:
        options = mount.get("options") or []
        permission = Permission.RO if "ro" in options else Permission.RW
        yield Mount(str(mount["hostPath"]), str(mount["containerPath"]), permission)


def _files(directories: Sequence[str]) -> Iterator[Table]:
    for directory in directories:
        for path in sorted(Path(directory).glob("*")):
            if path.suffix in {".json", ".yaml", ".yml"} and (spec := _read(path)) is not None:
                yield spec


def _read(path: Path) -> Table | None:
    """Read one file; one that is broken is passed over, as runtimes do."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        spec = json.loads(path.read_text()) if path.suffix == ".json" else _yaml(path)
    except (OSError, ValueError):
        return None
    return spec if isinstance(spec, Mapping) else None


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from exc
