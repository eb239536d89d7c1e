"""What of a changed configuration is taken over by a running agent, and what needs a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agent_core.config.model import AgentConfig
from agent_core.config.vocabulary import HANDED, KeyPath

LIVE: Final[frozenset[KeyPath]] = frozenset(
    {
        ("agent", "scaling-group"),
        ("agent", "region"),
        ("agent", "instance-type"),
        ("agent", "public-host"),
        ("agent", "advertised-rpc-addr"),
        ("agent", "kernel-creation-concurrency"),
        ("container", "stop-grace"),
        ("container", "advertised-host"),
        ("container", "built-in-services"),
        ("container", "service-tls-cert"),
        ("container", "service-tls-key"),
        ("container", "service-tls-idle-timeout"),
        ("container-logs", "max-length"),
        ("resource", "device-mask"),
        ("kernel-lifecycles", "init-timeout"),
        ("kernel-lifecycles", "stranger-policy"),
        ("kernel-lifecycles", "stranger-grace"),
        ("api", "pull-timeout"),
        ("api", "commit-timeout"),
        ("api", "push-timeout"),
        ("debug", "enabled"),
        ("debug", "asyncio"),
        ("debug", "kernel-runner"),
        ("debug", "log-events"),
        ("debug", "log-docker-events"),
        ("debug", "skip-container-deletion"),
        ("debug", "log-kernel-config"),
        ("debug", "log-alloc-map"),
        ("debug", "coredump", "enabled"),
        ("debug", "coredump", "path"),
        ("debug", "coredump", "backup-count"),
        ("debug", "coredump", "size-limit"),
        ("logging", "level"),
        ("logging", "drivers"),
        ("logging", "console", "colored"),
        ("logging", "console", "format"),
        ("logging", "file", "path"),
        ("logging", "file", "filename"),
        ("logging", "file", "backup-count"),
        ("logging", "file", "rotation-size"),
        ("logging", "file", "format"),
        ("logging", "pkg-ns"),
    }
)
"""Keys that a running agent takes over; all others need a restart."""


class Changes(NamedTuple):
    """What differs between two configurations, dotted and in order.

    Attributes:
        live: Keys that a running agent takes over.
        restart: Keys that need a restart.
    """

    live: tuple[str, ...]
    restart: tuple[str, ...]


def compare(before: AgentConfig, after: AgentConfig) -> Changes:
    """Say what differs, and what that needs; of tables that only plugins read they say it."""
    old, new = _flat(before), _flat(after)
    paths = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    ours = [path for path in paths if not _is_in(HANDED, path)]
    return Changes(
        tuple(".".join(path) for path in ours if _is_in(LIVE, path)),
        tuple(".".join(path) for path in ours if not _is_in(LIVE, path)),
    )


def taken_over(before: AgentConfig, after: AgentConfig) -> AgentConfig:
    """Lay what is live of one configuration over another: what is then in effect."""
    tree = before.model_dump(by_alias=True)
    new = after.model_dump(by_alias=True)
    for path in LIVE:
        _table(tree, path)[path[-1]] = _table(new, path)[path[-1]]
    return AgentConfig.model_validate(tree)


def _table(tree: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    for part in path[:-1]:
        tree = tree[part]
    return tree


def _is_in(keys: frozenset[KeyPath], path: KeyPath) -> bool:
    return any(path[:length] in keys for length in range(1, len(path) + 1))


def _flat(config: AgentConfig) -> dict[KeyPath, Any]:
    # Not as it is shown: there secrets are masked, and a changed one would look as before.
    return dict(_leaves(config.model_dump(mode="json", by_alias=True), ()))


def _leaves(table: Mapping[str, Any], path: KeyPath) -> list[tuple[KeyPath, Any]]:
    found: list[tuple[KeyPath, Any]] = []
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value:
            found += _leaves(value, here)
        else:
            found.append((here, value))
    return found
