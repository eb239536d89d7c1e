"""ContainerEdits: the runtime-neutral reply of every plugin, and the law of merging them.

A plugin says what a container needs, never how a runtime spells it. The host merges the replies of
all plugins of one kernel; each field has its own law, and each entry keeps its source, so that a
conflict names both plugins. The merge is commutative and associative.

    ================  ======================================================================
    field             when two plugins give the same key
    ================  ======================================================================
    env               equal, or conflict
    path_env          all entries, ordered by plugin name, without repeats
    preload           all entries, ordered by plugin name, without repeats
    device_nodes      equal, or conflict (key: path in the container)
    mounts            equal, or conflict (key: target)
    files             equal, or conflict (key: path in the container)
    cdi_names         union
    device_requests   union of ids and of capabilities (key: driver)
    groups            union
    rlimits           the highest; -1 is unlimited and highest of all
    limits            the lowest
    cpuset            equal, or conflict
    syscalls          union
    networks          union
    labels            equal, or conflict
    resource_data     equal, or conflict
    hooks             union
    ================  ======================================================================

One reply that gives the same key twice obeys the same law, and a variable is either in `env` or in
`path_env` of all plugins together: in both it is a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from agent_core.contracts.errors import EditsConflict


class Permission(StrEnum):
    """What a kernel may do in a mounted folder."""

    RO = "ro"
    RW = "rw"
    RW_DELETE = "rw-delete"


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host seen at `target`."""

    source: str
    target: str
    permission: Permission = Permission.RO


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device node of the host; `permissions` is of r, w and m (mknod)."""

    path: str
    host_path: str
    permissions: str = "rw"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that the container finds at `path`."""

    path: str
    content: bytes
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """Devices that the runtime's own driver injects, such as Docker's ``nvidia``."""

    driver: str
    device_ids: tuple[str, ...]
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cpuset:
    """Cores and memory nodes, always set together; empty nodes means any."""

    cpus: tuple[int, ...]
    mems: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hook:
    """An OCI hook: `stage` is createRuntime, createContainer, startContainer or poststop."""

    stage: str
    path: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerEdits:
    """What one container needs.

    Attributes:
        env: Environment variables.
        path_env: Entries of path-like variables, such as ``{"LD_LIBRARY_PATH": ("/opt/x",)}``.
        preload: Libraries to preload.
        device_nodes: Device nodes of the host.
        mounts: Directories and files of the host.
        files: Files with their content.
        cdi_names: Names of the Container Device Interface, ``vendor.com/class=device``.
        device_requests: Requests to a driver of the runtime.
        groups: Supplementary groups, by name or number.
        rlimits: Resource limits by name without ``RLIMIT_`` in lower case; -1 is unlimited.
        limits: Upper bounds: ``cpus`` (millicores); ``memory``, ``swap``, ``shm`` (bytes); pids.
        cpuset: The cores and memory nodes to run on.
        syscalls: System calls to allow beyond the default.
        networks: Networks to join.
        labels: Labels of the container.
        resource_data: Lines that the kernel finds in its resource file.
        hooks: OCI hooks; refused where the backend cannot.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    path_env: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    files: tuple[ConfigFile, ...] = ()
    cdi_names: tuple[str, ...] = ()
    device_requests: tuple[DeviceRequest, ...] = ()
    groups: tuple[str, ...] = ()
    rlimits: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    cpuset: Cpuset | None = None
    syscalls: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    resource_data: Mapping[str, str] = field(default_factory=dict)
    hooks: tuple[Hook, ...] = ()


EDIT_FIELDS = tuple(f.name for f in fields(ContainerEdits))
"""The names of all fields, in order."""

_Entries = dict[str, dict[str, Any]]  # key -> source -> value
_Law = Callable[[str, str, Mapping[str, Any]], Any]


def _equal(field_name: str, key: str, by_source: Mapping[str, Any]) -> Any:
    sources = sorted(by_source)
    first = by_source[sources[0]]
    for other in sources[1:]:
        if by_source[other] != first:
            raise EditsConflict(
                f"plugins {sources[0]!r} and {other!r} disagree on {field_name} {key!r}: "
                f"{first!r} against {by_source[other]!r}",
                details={"field": field_name, "key": key, "plugins": [sources[0], other]},
            )
    return first


def _in_plugin_order(_field: str, _key: str, by_source: Mapping[str, Any]) -> tuple[str, ...]:
    ordered = [item for source in sorted(by_source) for item in by_source[source]]
    return tuple(dict.fromkeys(ordered))


def _union(_field: str, _key: str, by_source: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted({item for items in by_source.values() for item in items}, key=repr))


def _highest(_field: str, _key: str, by_source: Mapping[str, int]) -> int:
    return -1 if -1 in by_source.values() else max(by_source.values())


def _lowest(_field: str, _key: str, by_source: Mapping[str, int]) -> int:
    return min(by_source.values())


def _requests(_field: str, key: str, by_source: Mapping[str, Any]) -> DeviceRequest:
    ids = {i for request in by_source.values() for i in request.device_ids}
    capabilities = {c for request in by_source.values() for c in request.capabilities}
    return DeviceRequest(key, tuple(sorted(ids)), tuple(sorted(capabilities)))


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one field is taken apart into keyed entries, merged, and put together again."""

    law: _Law
    split: Callable[[Any], Iterable[tuple[str, Any]]]
    join: Callable[[Mapping[str, Any]], Any]
    ordered: bool = False


def _items(value: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return value.items()


def _whole(value: Any) -> Iterable[tuple[str, Any]]:
    return [("", value)] if value else []


def _only(values: Mapping[str, Any]) -> Any:
    return values.get("", ())


def _keyed(attribute: str) -> Callable[[Any], Iterable[tuple[str, Any]]]:
    return lambda items: [(getattr(item, attribute), item) for item in items]


def _listed(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(values[key] for key in sorted(values))


_RULES: Mapping[str, _Rule] = {
    "env": _Rule(_equal, _items, dict),
    "path_env": _Rule(_in_plugin_order, _items, dict, ordered=True),
    "preload": _Rule(_in_plugin_order, _whole, _only, ordered=True),
    "device_nodes": _Rule(_equal, _keyed("path"), _listed),
    "mounts": _Rule(_equal, _keyed("target"), _listed),
    "files": _Rule(_equal, _keyed("path"), _listed),
    "cdi_names": _Rule(_union, _whole, _only),
    "device_requests": _Rule(_requests, _keyed("driver"), _listed),
    "groups": _Rule(_union, _whole, _only),
    "rlimits": _Rule(_highest, _items, dict),
    "limits": _Rule(_lowest, _items, dict),
    "cpuset": _Rule(_equal, _whole, lambda values: values.get("")),
    "syscalls": _Rule(_union, _whole, _only),
    "networks": _Rule(_union, _whole, _only),
    "labels": _Rule(_equal, _items, dict),
    "resource_data": _Rule(_equal, _items, dict),
    "hooks": _Rule(_union, _whole, _only),
}


class MergedEdits:
    """The edits of several plugins, each entry with its source.

    Make one of a single plugin's reply with `of`, merge any number in any order with ``|``, and
    read the result with `resolve`.

        merged = MergedEdits.of("cuda", edits) | MergedEdits.of("mem", other)
        final = merged.resolve()
    """

    __slots__ = ("_entries", "_resolved")

    def __init__(self, entries: Mapping[str, _Entries] | None = None) -> None:
        self._entries: dict[str, _Entries] = {**(entries or {})}
        self._resolved: ContainerEdits | None = None

    @classmethod
    def of(cls, source: str, edits: ContainerEdits) -> MergedEdits:
        """Tag every entry of one plugin's reply with the plugin's name.

        Raises:
            EditsConflict: when the reply contradicts itself.
        """
        entries: dict[str, _Entries] = {}
        for name, rule in _RULES.items():
            said_of_field = getattr(edits, name)
            if not said_of_field:
                continue
            of_field = entries.setdefault(name, {})
            for key, value in rule.split(said_of_field):
                said = of_field.get(key, {})
                of_field[key] = _by_source(name, key, rule, said, {source: value})
        _refuse_two_kinds_of_variable(entries)
        return cls(entries)

    @classmethod
    def merge(cls, parts: Iterable[MergedEdits]) -> MergedEdits:
        """Merge any number of edits.

        Raises:
            EditsConflict: when two plugins disagree where they must not.
        """
        merged = cls()
        for part in parts:
            merged = merged | part
        return merged

    def __or__(self, other: MergedEdits) -> MergedEdits:
        mine, theirs = self._entries, other._entries
        merged = {
            name: self._merge_field(name, _RULES[name], other)
            for name in (*mine, *(name for name in theirs if name not in mine))
        }
        _refuse_two_kinds_of_variable(merged)
        return MergedEdits(merged)

    def _merge_field(self, name: str, rule: _Rule, other: MergedEdits) -> _Entries:
        mine, theirs = self._entries.get(name, {}), other._entries.get(name, {})
        if not (mine and theirs):
            return mine or theirs
        result: _Entries = {}
        for key in mine.keys() | theirs.keys():
            by_source = _by_source(name, key, rule, mine.get(key, {}), theirs.get(key, {}))
            rule.law(name, key, by_source)
            result[key] = by_source
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MergedEdits) and self._compact() == other._compact()

    def __hash__(self) -> int:
        return hash(tuple(sorted((n, tuple(sorted(e))) for n, e in self._compact().items())))

    def _compact(self) -> dict[str, _Entries]:
        return {name: entries for name, entries in self._entries.items() if entries}

    def resolve(self) -> ContainerEdits:
        """Apply every field's law and return one set of edits."""
        if self._resolved is None:
            self._resolved = ContainerEdits(
                **{name: self._joined(name, entries) for name, entries in self._entries.items()}
            )
        return self._resolved

    def _joined(self, name: str, entries: _Entries) -> Any:
        rule = _RULES[name]
        return rule.join({key: rule.law(name, key, entries[key]) for key in sorted(entries)})

    def sources(self, field_name: str, key: str = "") -> tuple[str, ...]:
        """Name the plugins that gave this entry, in order."""
        return tuple(sorted(self._entries.get(field_name, {}).get(key, {})))

    def environment(self, *below: Mapping[str, str]) -> dict[str, str]:
        """Lay the merged environment over others, the image's first and the user's last.

        A key that a plugin owns is never taken from below; a path-like variable gets the plugins'
        entries in front of what lies below.
        """
        final = self.resolve()
        lower: dict[str, str] = {}
        for layer in below:
            lower.update(layer)
        result = {**lower, **final.env}
        for key, entries in final.path_env.items():
            result[key] = ":".join([*entries, *([lower[key]] if lower.get(key) else [])])
        return result


def _by_source(
    name: str, key: str, rule: _Rule, mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """Unite two maps of source to value; one source on both sides obeys the law with itself."""
    united = {**mine, **theirs}
    for source in mine.keys() & theirs.keys():
        if mine[source] != theirs[source]:
            # Two orders of one plugin have no order between them, so they cannot be merged.
            law = _equal if rule.ordered else rule.law
            united[source] = law(
                name, key, {source: mine[source], f"{source} (again)": theirs[source]}
            )
    return united


def _refuse_two_kinds_of_variable(entries: Mapping[str, _Entries]) -> None:
    """Refuse a variable that one plugin sets whole while another adds a path to it."""
    plain, paths = entries.get("env", {}), entries.get("path_env", {})
    for key in sorted(plain.keys() & paths.keys()):
        sources = [min(plain[key]), min(paths[key])]
        raise EditsConflict(
            f"plugin {sources[0]!r} sets the variable {key!r} as a whole, "
            f"and plugin {sources[1]!r} adds paths to it",
            details={"field": "path_env", "key": key, "plugins": sorted(sources)},
        )
