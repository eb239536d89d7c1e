"""The slots of this node by name: what a request is read against."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from agent_core.contracts.amount import Amount
from agent_core.contracts.info import SlotInfo, SlotType


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """One slot that a ready plugin declares.

    Attributes:
        name: The slot; a glob where the plugin's devices are not known yet.
        plugin: Who offers it.
        display: How to show it, and how it is counted.
        quantum: The smallest amount, or None while the plugin's devices are unknown.
        total: What the node has of it, or None while the plugin's devices are unknown.
        offered: False when the plugin's devices are known and none of them offers it.
    """

    name: str
    plugin: str
    display: SlotInfo
    quantum: Amount | None = None
    total: Amount | None = None
    offered: bool = True

    @property
    def type(self) -> SlotType:
        """How amounts of it are counted."""
        return self.display.type

    @property
    def units(self) -> str:
        """What a person calls several of it: cores, GPUs, units."""
        unit = self.display.display_unit
        if not unit:
            return "units"
        return f"{unit if any(c.isupper() for c in unit[1:]) else unit.lower()}s"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All slots of this node.

    Attributes:
        slots: Slots by their full name.
        patterns: Globs of plugins whose devices are not known yet.
        exclusive: By plugin, globs of its slots of which one kernel may ask only one.
    """

    slots: Mapping[str, SlotSpec] = field(default_factory=dict)
    patterns: tuple[SlotSpec, ...] = ()
    exclusive: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def find(self, name: str) -> SlotSpec | None:
        """Look a slot up by its full name, or by the glob of a plugin that has not reported."""
        spec = self.slots.get(name)
        if spec is not None:
            return spec
        return next((p for p in self.patterns if fnmatchcase(name, p.name)), None)

    def suggest(self, name: str) -> str | None:
        """Name the offered slot that was probably meant."""
        offered = sorted(s.name for s in self.slots.values() if s.offered)
        close = difflib.get_close_matches(name, offered, n=1, cutoff=0.6)
        if close:
            return close[0]
        return next((o for o in offered if o.startswith(f"{name}.")), None)

    def excluded(self, names: Iterable[str]) -> list[tuple[str, ...]]:
        """List the groups of these slots that one kernel may not ask for together.

        A plugin that offers several kinds of devices excludes only slots of one kind, by the name
        before the dot.
        """
        groups: dict[tuple[str, str], list[str]] = {}
        for name in sorted(names):
            spec = self.find(name)
            if spec and any(fnmatchcase(name, g) for g in self.exclusive.get(spec.plugin, ())):
                groups.setdefault((spec.plugin, name.partition(".")[0]), []).append(name)
        return [tuple(group) for group in groups.values() if len(group) > 1]
