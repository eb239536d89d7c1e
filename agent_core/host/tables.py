"""Which configuration each plugin is opened with: its own table, and what comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeGuard

from agent_core.contracts.errors import PluginContractBroken
from agent_core.contracts.info import PluginInfo

Table = Mapping[str, Any]

_INTRINSIC = ("cpu", "mem")


@dataclass(slots=True)
class PluginTables:
    """What the configuration says to plugins.

    Attributes:
        own: For each plugin's name its section ``[plugin.<name>]``.
        offered: By kind, or by kind and name such as ``device:cpu``, what the agent says of itself;
            a plugin is told those of the keys that its schema knows.
        sections: By dotted name, such as ``agent.delay``, the tables that only plugins read.
    """

    own: Mapping[str, Table] = field(default_factory=dict)
    offered: dict[str, dict[str, Any]] = field(default_factory=dict)
    sections: Mapping[str, Table] = field(default_factory=dict)

    def of(self, info: PluginInfo, name: str) -> dict[str, Any]:
        """Put together what the plugin of this name is opened with."""
        table = self._offer(info, name) | dict(self.own.get(name, {}))
        for section in info.sections:
            if section in self.sections:
                _nest(table, section.split("."), self.sections[section])
        return table

    def renewed(self, own: Mapping[str, Table], sections: Mapping[str, Table]) -> PluginTables:
        """Return tables of a changed configuration; what the agent says of itself stays."""
        return PluginTables(own, self.offered, sections)

    def take_over(self, info: PluginInfo, name: str, new: PluginTables) -> None:
        """Remember what a plugin has taken over of other tables while it is open."""
        self.own = {**self.own, name: new.own.get(name, {})}
        read = {key: new.sections[key] for key in info.sections if key in new.sections}
        kept = {key: table for key, table in self.sections.items() if key not in info.sections}
        self.sections = kept | read

    def offer(self, label: str, **values: Any) -> None:
        """Say something of the agent itself to plugins; what was said before is replaced."""
        self.offered.setdefault(label, {}).update(values)

    def stand_in(self, backend: str, values: object) -> None:
        """Configure agent-core's own plugins as a backend says for a node that is not this host.

        Raises:
            PluginContractBroken: when the backend said something else.
        """
        if not _are_stand_ins(values):
            raise PluginContractBroken(
                f"backend {backend!r} answered stand_ins with {values!r}, no cpu and mem",
                plugin=backend,
                stage="stand_ins",
            )
        for name, table in values.items():
            self.offer(f"device:{name}", **table, simulated=True)

    def _offer(self, info: PluginInfo, name: str) -> dict[str, Any]:
        known = info.config_schema.get("properties", {})
        offered = self.offered.get(info.kind, {}) | self.offered.get(f"{info.kind}:{name}", {})
        return {key: value for key, value in offered.items() if key in known}

    def unread(self, names: Iterable[str], infos: Iterable[PluginInfo]) -> Iterator[str]:
        """Name what nobody reads: tables of plugins not installed, sections of plugins not loaded.

        Args:
            names: Every plugin that is installed.
            infos: Those that are loaded.
        """
        known = sorted(names)
        for name in sorted(self.own.keys() - set(known)):
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean [plugin.{near[0]}]?" if near else ""
            yield f"[plugin.{name}] has no effect: no plugin of that name{hint}"
        read = {section for info in infos for section in info.sections}
        for section in sorted(self.sections.keys() - read):
            yield f"[{section}] has no effect: no plugin that is loaded reads it"

    def unheard(
        self, kind: str, infos: Iterable[PluginInfo], places: Mapping[str, str]
    ) -> Iterator[str]:
        """Name what was said to the plugins of a kind that none of them knows.

        Args:
            kind: The kind that it was offered to.
            infos: The plugins that are loaded.
            places: Where in the configuration each offered key stands.
        """
        of_kind = [info for info in infos if info.kind == kind]
        known = {key for info in of_kind for key in info.config_schema.get("properties", {})}
        names = ", ".join(repr(info.name) for info in of_kind)
        for key in sorted(self.offered.get(kind, {}).keys() - known):
            yield f"{places.get(key, key)} has no effect: {kind} {names} knows none"


def _are_stand_ins(values: object) -> TypeGuard[Mapping[str, Table]]:
    return (
        isinstance(values, Mapping)
        and values.keys() <= set(_INTRINSIC)
        and all(isinstance(table, Mapping) for table in values.values())
    )


def _nest(table: dict[str, Any], path: list[str], value: Table) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = dict(value)
