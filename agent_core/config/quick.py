"""The few keys that most commands need, read without building the model.

`agentctl plugins list` must not wait for a validation library. What is plain here is answered
here; anything unusual is left to the full loader, so that both always agree and every fault is
reported by one of them only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent_core.config.paths import (
    AGENT_ID,
    AgentPaths,
    agent_paths,
    default_agent_id,
)
from agent_core.config.selection import Selection
from agent_core.config.sources import find_file, read_file, variables
from agent_core.config.vocabulary import ALIASES, KeyPath


class Glance(NamedTuple):
    """What can be told about an agent without the whole configuration.

    Attributes:
        agent_id: ``[agent] id``.
        paths: Its directories and its socket.
        selection: Which plugins are wanted.
        path: The file that was read, or None.
    """

    agent_id: str
    paths: AgentPaths
    selection: Selection
    path: Path | None


class _UnusualError(Exception):
    """Raised when only the full loader can tell."""


_WORDS: Final[tuple[KeyPath, ...]] = (
    ("agent", "id"),
    ("agent", "backend"),
    ("agent", "ipc-base-path"),
    ("agent", "var-base-path"),
    ("container", "scratch-type"),
    ("container", "runner"),
)
_LISTS: Final[tuple[KeyPath, ...]] = (
    ("agent", "allow-compute-plugins"),
    ("agent", "block-compute-plugins"),
    ("plugins", "allow"),
    ("plugins", "block"),
    ("plugins", "inline"),
)


def glance(path: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Glance:
    """Find the agent's id, directories and selection.

    Raises:
        InvalidConfig: when the file cannot be read, or one of the keys needed has a fault.
    """
    environ = os.environ if environ is None else environ
    chosen = find_file(path, environ)
    try:
        return _plain_glance(chosen, environ)
    except _UnusualError:
        return _full_glance(chosen, environ)


def _full_glance(path: Path | None, environ: Mapping[str, str]) -> Glance:
    from agent_core.config.loader import load

    config = load(path, environ=environ).config
    return Glance(config.agent.id, config.paths, config.selection, path)


def _plain_glance(path: Path | None, environ: Mapping[str, str]) -> Glance:
    values = _file_values(path) if path is not None else {}
    values.update(_environment_values(environ))
    agent_id = values.get(("agent", "id"), "") or default_agent_id()
    if not AGENT_ID.fullmatch(agent_id):
        raise _UnusualError
    paths = agent_paths(
        agent_id,
        var_base=values.get(("agent", "var-base-path")),
        ipc_base=values.get(("agent", "ipc-base-path")),
        environ=environ,
    )
    return Glance(agent_id, paths, _selection(values), path)


def _selection(values: Mapping[KeyPath, Any]) -> Selection:
    default = Selection()
    return Selection(
        backend=values.get(("agent", "backend"), default.backend),
        scratch=values.get(("container", "scratch-type"), default.scratch),
        runner=values.get(("container", "runner"), default.runner),
        allow_devices=values.get(("agent", "allow-compute-plugins")),
        block_devices=values.get(("agent", "block-compute-plugins"), ()),
        allow=values.get(("plugins", "allow")),
        block=values.get(("plugins", "block"), ()),
        inline=values.get(("plugins", "inline"), ()),
    )


def _file_values(path: Path) -> dict[KeyPath, Any]:
    layer = read_file(path)
    values: dict[KeyPath, Any] = {}
    for section in ("agent", "container", "plugins"):
        table = layer.tree.get(section, {})
        if not isinstance(table, dict):
            raise _UnusualError
        for key, value in table.items():
            _take(values, (section, key), value, layer.base)
    return values


def _environment_values(environ: Mapping[str, str]) -> dict[KeyPath, Any]:
    values: dict[KeyPath, Any] = {}
    for name, path in variables(environ).items():
        _take(values, path, environ[name], Path.cwd())
    return values


def _take(values: dict[KeyPath, Any], path: KeyPath, value: Any, base: Path) -> None:
    alias = ALIASES.get(path)
    canonical = path if alias is None else (*path[:-1], alias.key)
    if canonical in _LISTS:
        value = _list(value)
    elif canonical in _WORDS:
        value = _word(canonical, value, base)
    else:
        return
    if canonical in values:
        raise _UnusualError
    values[canonical] = value


def _list(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _UnusualError
    return tuple(value)


def _word(path: KeyPath, value: Any, base: Path) -> Any:
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise _UnusualError
    if not path[-1].endswith("-path"):
        return value
    if value.startswith("~"):
        raise _UnusualError
    return base / value
