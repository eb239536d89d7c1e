"""What all plugins have on this node, and the catalogue of slots that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Device
from agent_core.contracts.errors import PluginContractBroken, bullet_list
from agent_core.contracts.info import PluginInfo
from agent_core.contracts.inventory import check_inventory
from agent_core.resources.catalogue import Catalogue, SlotSpec
from agent_core.resources.counters import Counters, Room
from agent_core.resources.masks import matches
from agent_core.resources.packing import Option
from agent_core.resources.placement import available
from agent_core.resources.shelf import Shelf, ShelfSlot, stock


class Stockroom:
    """The shelves of all plugins, the counters that they draw on, and the catalogue.

    Args:
        masks: By plugin, globs of devices that get no new grants.
    """

    def __init__(self, masks: Mapping[str, Sequence[str]] | None = None) -> None:
        self._masks = dict(masks or {})
        self.counters = Counters()
        self.catalogue = Catalogue()
        self._shelves: dict[str, Shelf] = {}
        self._totals: dict[tuple[str, str], Amount] = {}
        self._reported: dict[str, tuple[Device, ...]] = {}

    def mask(self, masks: Mapping[str, Sequence[str]]) -> None:
        """Withhold other devices from the next report of each plugin on."""
        self._masks = dict(masks)
        self._reported.clear()

    @property
    def shelves(self) -> Mapping[str, Shelf]:
        """The shelves by plugin, in the order of their first report."""
        return self._shelves

    def total(self, plugin: str, slot: str) -> Amount:
        """Say how much of a slot the plugin's devices hold together."""
        return self._totals.get((plugin, slot), Amount(0))

    def held_by(self, slot: ShelfSlot) -> Amount:
        """Say how much the devices of one quantum hold together."""
        return _total(slot, Room(self.counters.capacity))

    def update(self, plugin: str, info: PluginInfo, devices: Sequence[Device] | None) -> bool:
        """Take an inventory, or None when it is not known; say whether anything changed.

        Raises:
            PluginContractBroken: when the inventory cannot be used; nothing changed.
        """
        last = self._shelves.get(plugin, Shelf(plugin, info))
        if last.known and last.info == info and self._is_as_before(plugin, devices):
            return False
        if devices is None:
            shelf = replace(last, info=info, known=False)
        else:
            shelf = stock(
                plugin,
                info,
                check_inventory(plugin, info, devices),
                self._masks.get(plugin, ()),
            )
        if plugin in self._shelves and shelf == last:
            return False
        if devices is not None:
            self._refuse_clashes(shelf)
            self.counters.declare(plugin, shelf.counters)
        self._shelves[plugin] = shelf
        self._reported[plugin] = tuple(devices or ())
        self._rebuild()
        return True

    def _is_as_before(self, plugin: str, devices: object) -> bool:
        """Tell a reply that was checked and taken before, as nearly every one is."""
        if not isinstance(devices, tuple | list):
            return False
        return tuple(devices) == self._reported.get(plugin)

    def idle_masks(self) -> list[tuple[str, str]]:
        """List the plugin and the glob of each mask that matches none of its known devices."""
        return [
            (plugin, glob)
            for plugin, mask in sorted(self._masks.items())
            if plugin in self._shelves and self._shelves[plugin].known
            for glob in mask
            if not any(matches(d, glob) for d in self._shelves[plugin].devices.values())
        ]

    def forget(self, plugin: str) -> None:
        """Take a plugin's shelf away."""
        self._reported.pop(plugin, None)
        if self._shelves.pop(plugin, None) is not None:
            self.counters.withdraw(plugin)
            self._rebuild()

    def _refuse_clashes(self, shelf: Shelf) -> None:
        faults = [
            f"plugins {other.plugin!r} and {shelf.plugin!r} both offer the slot {slot!r}"
            for other in self._shelves.values()
            for slot in shelf.slots
            if other.plugin != shelf.plugin and slot in other.slots
        ]
        faults += [
            f"plugins {other!r} and {shelf.plugin!r} declare the counter {counter.id!r} differently"
            for other, counter in self.counters.clashes(shelf.plugin, shelf.counters)
        ]
        if faults:
            raise PluginContractBroken(
                bullet_list(faults),
                plugin=shelf.plugin,
                stage="devices",
                hint="Block one of the two in the configuration; the first to report is kept.",
                details={"faults": faults},
            )

    def _rebuild(self) -> None:
        whole = Room(self.counters.capacity)
        self._totals = {
            (shelf.plugin, name): sum((_total(grain, whole) for grain in slot.grains), Amount(0))
            for shelf in self._shelves.values()
            for name, slot in shelf.slots.items()
        }
        slots: dict[str, SlotSpec] = {}
        patterns: list[SlotSpec] = []
        for shelf in self._shelves.values():
            for spec in self._specs(shelf):
                if "*" in spec.name:
                    patterns.extend([] if shelf.known else [spec])
                elif spec.name not in slots or spec.quantum is not None:
                    slots[spec.name] = spec
        exclusive = {s.plugin: s.info.exclusive_slots for s in self._shelves.values()}
        self.catalogue = Catalogue(slots, tuple(patterns), exclusive)

    def _specs(self, shelf: Shelf) -> list[SlotSpec]:
        offered = [
            SlotSpec(n, shelf.plugin, s.display, s.grains[-1].quantum, self.total(shelf.plugin, n))
            for n, s in shelf.slots.items()
        ]
        declared = [
            SlotSpec(d.name, shelf.plugin, d, offered=not shelf.known)
            for d in shelf.info.slots
            if d.name not in shelf.slots
        ]
        return offered + declared


def _total(slot: ShelfSlot, whole: Room) -> Amount:
    return slot.amount(available(_unbounded(slot), whole))


def _unbounded(slot: ShelfSlot) -> list[Option]:
    """List what all kernels together can have of a slot: the bound on one of them left out."""
    return [replace(o, most=None) for o in (*slot.options, *slot.withheld)]
