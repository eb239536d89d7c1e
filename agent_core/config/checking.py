"""From what the sources say to one canonical tree: aliases resolved, unknown keys named."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_core.config.faults import Fault, did_you_mean
from agent_core.config.lines import key_lines, line_of
from agent_core.config.model import Address, AgentConfig, Section, kebab
from agent_core.config.sources import Layer
from agent_core.config.units import split_address
from agent_core.config.vocabulary import ALIASES, PATH_KEYS, KeyPath

Schema = Mapping[str, Any]
"""Keys of a table: a nested schema for a table, None for a value."""

_ADDRESS_KEY: KeyPath = ("agent", "rpc-listen-addr")


def schema_of(model: type[Section]) -> Schema:
    """List the keys of a section as they stand in TOML."""
    return {kebab(name): _below(f.annotation) for name, f in model.model_fields.items()}


def _below(annotation: Any) -> Schema | None:
    section = _section(annotation)
    return None if section is None else schema_of(section)


def section_in(annotation: Any) -> type[Section] | None:
    """Return the table that a field is; an address is a value, although it may be a table."""
    return None if annotation is Address else _section(annotation)


def _section(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, Section) else None
    return None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who set a key: the layer, and the key as it was spelled there."""

    layer: Layer
    spelled: KeyPath

    def line(self) -> int | None:
        """Find the line in the file; None for what is no file."""
        return line_of(key_lines(self.layer.text), self.spelled) if self.layer.text else None

    def fault(self, what: str, hint: str = "") -> Fault:
        """Say what is wrong with this key."""
        return Fault(self.layer.name, self.line(), ".".join(self.spelled), what, hint)


@dataclass(slots=True)
class Checking:
    """Goes through the layers in their order and gathers what comes of them.

    Attributes:
        tree: The canonical tree so far.
        later: The canonical tree of keys that take effect with a later feature.
        origins: For each canonical key, who set it last.
        faults: Unknown keys, refused ones and contradictions.
        pending: Keys without effect yet, by the table that they stand in.
        deprecated: Keys that have a newer spelling.
    """

    schema: Schema
    tree: dict[str, Any] = field(default_factory=dict)
    later: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    pending: dict[tuple[str, KeyPath], list[Origin]] = field(default_factory=dict)
    deprecated: list[tuple[Origin, str]] = field(default_factory=list)

    def add(self, layer: Layer) -> None:
        """Lay one source over what is there."""
        self._walk(layer, layer.tree, self.schema, (), self.tree)

    def warnings(self) -> Iterator[str]:
        """Yield what the operator should know although nothing is wrong."""
        for origin, key in self.deprecated:
            yield str(origin.fault(f"is an old spelling of {key}"))
        for (_, table), origins in self.pending.items():
            keys = _with_features(table, origins)
            what = f"[{'.'.join(table)}] known but not yet in effect: {', '.join(keys)}"
            yield str(Fault(origins[0].layer.name, origins[0].line(), "", what))

    def _walk(
        self,
        layer: Layer,
        table: Mapping[str, Any],
        schema: Schema,
        path: KeyPath,
        out: dict[str, Any],
    ) -> None:
        for key, value in table.items():
            here = (*path, key)
            name = self._canonical(layer, here)
            if name in schema:
                self._known(layer, here, name, value, schema[name], out)
            else:
                self._without_effect(layer, here, name, value, schema)

    def _canonical(self, layer: Layer, here: KeyPath) -> str:
        alias = ALIASES.get(here)
        if alias is None:
            return here[-1]
        if alias.deprecated:
            self.deprecated.append((Origin(layer, here), alias.key))
        return alias.key

    def _known(
        self,
        layer: Layer,
        here: KeyPath,
        name: str,
        value: Any,
        below: Schema | None,
        out: dict[str, Any],
    ) -> None:
        canonical = (*here[:-1], name)
        if below is not None and isinstance(value, Mapping):
            inner = out.setdefault(name, {})
            self.origins.setdefault(canonical, Origin(layer, here))
            self._walk(layer, value, below, canonical, inner if isinstance(inner, dict) else {})
            return
        value = _plain(canonical, value, layer.base)
        origin, before = Origin(layer, here), self.origins.get(canonical)
        if before is not None and _contradicts(before, origin) and out.get(name) != value:
            self.faults.append(_contradiction(before, origin))
        self._record(canonical, value, origin)
        out[name] = _merged(out.get(name), value)

    def _record(self, path: KeyPath, value: Any, origin: Origin) -> None:
        self.origins[path] = origin
        if isinstance(value, Mapping):
            for key, inner in value.items():
                self._record((*path, key), inner, Origin(origin.layer, (*origin.spelled, key)))

    def _without_effect(
        self, layer: Layer, here: KeyPath, name: str, value: Any, schema: Schema
    ) -> None:
        """Take what is no key in effect: refused, of a later feature, or unknown."""
        # Most configurations have none of these keys, and pay nothing for them.
        from agent_core.config.refused import REFUSED

        canonical, origin = (*here[:-1], name), Origin(layer, here)
        refusal = REFUSED.get(canonical)
        if refusal is not None:
            if value not in refusal.harmless:
                self.faults.append(origin.fault(f"is refused: {refusal.why}", refusal.instead))
            return
        later = later_schema(here[:-1])
        if name not in later:
            self.faults.append(_unknown(origin, {*schema, *later}))
            return
        table = here if len(here) == 1 or later[name] is not None else here[:-1]
        self.pending.setdefault((layer.group, table), []).append(origin)
        self._known(layer, here, name, value, None, self._later_table(here[:-1]))

    def _later_table(self, path: KeyPath) -> dict[str, Any]:
        table = self.later
        for part in path:
            table = table.setdefault(part, {})
        return table


def later_schema(path: KeyPath) -> Schema:
    """List the keys of a table that take effect with a later feature; empty where there is none."""
    from agent_core.config.pending import PendingConfig

    schema: Schema | None = schema_of(PendingConfig)
    for part in path:
        schema = (schema or {}).get(part)
    return schema or {}


def _with_features(table: KeyPath, origins: Collection[Origin]) -> list[str]:
    """Name the keys of a table, each group with the feature that it takes effect with."""
    from agent_core.config.pending import feature_of

    by_feature: dict[str, set[str]] = {}
    for origin in origins:
        for path in _leaves(origin, table):
            word = ".".join(path[len(table) :]) or "all of it"
            by_feature.setdefault(feature_of(path), set()).add(word)
    return [f"{', '.join(sorted(keys))} (with {name})" for name, keys in sorted(by_feature.items())]


def _leaves(origin: Origin, table: KeyPath) -> Iterator[KeyPath]:
    found: Any = origin.layer.tree
    for part in origin.spelled:
        found = found[part]
    if isinstance(found, Mapping) and found and origin.spelled == table:
        yield from ((*origin.spelled, key) for key in found)
    else:
        yield origin.spelled


def _contradicts(before: Origin, origin: Origin) -> bool:
    return before.layer.group == origin.layer.group and before.spelled != origin.spelled


def _contradiction(before: Origin, origin: Origin) -> Fault:
    other = before.spelled[-1]
    return origin.fault(f"contradicts {other}, which means the same", "keep one of the two")


def _unknown(origin: Origin, known: Collection[str]) -> Fault:
    path, key = origin.spelled[:-1], origin.spelled[-1]
    aliases = {p[-1] for p in ALIASES if p[:-1] == path}
    kind = "key" if path else "section"
    suggestion = did_you_mean(key, {*known, *aliases})
    return origin.fault(f"is an unknown {kind}", _home_of(key, path) or suggestion)


def _home_of(key: str, path: KeyPath) -> str:
    tables = [*_tables(schema_of(AgentConfig), ()), *_tables(later_schema(()), ())]
    homes = [table for table, keys in tables if table not in ((), path) and key in keys]
    names = sorted({f"[{'.'.join(home)}]" for home in homes})
    return f"it belongs into {' or '.join(names)}" if names else ""


def _tables(schema: Schema, path: KeyPath) -> Iterator[tuple[KeyPath, Collection[str]]]:
    yield path, [key for key, below in schema.items() if below is None]
    for key, below in schema.items():
        if below is not None:
            yield from _tables(below, (*path, key))


def _plain(path: KeyPath, value: Any, base: Path) -> Any:
    if not isinstance(value, str):
        return value
    if path == _ADDRESS_KEY:
        return split_address(value) or value
    return str(resolved(value, base)) if path in PATH_KEYS and value else value


def resolved(value: str, base: Path) -> Path:
    """Make a path of the configuration absolute."""
    path = Path(value)
    if value.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:
            # A user that does not exist: the path stays as it was written.
            return path
    return Path(base, path)


def _merged(before: Any, value: Any) -> Any:
    if not (isinstance(before, Mapping) and isinstance(value, Mapping)):
        return value
    keys = [*before, *(key for key in value if key not in before)]
    return {k: _merged(before.get(k), value[k]) if k in value else before[k] for k in keys}
