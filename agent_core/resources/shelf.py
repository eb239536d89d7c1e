"""What one plugin has on this node, arranged by slot for quick decisions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Grant, Health, Offer
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.contracts.inventory import ancestors
from agent_core.resources.masks import masked
from agent_core.resources.packing import Option, apart

_GRANTABLE = (Health.HEALTHY, Health.DEGRADED)


@dataclass(frozen=True, slots=True)
class ShelfSlot:
    """One slot of one plugin: its devices of one quantum.

    Attributes:
        display: How it is shown and counted.
        quantum: The smallest amount of these devices.
        options: Devices that may be given, in their own order.
        withheld: Devices that offer it and get no new grants.
        reasons: Why, by the id of the withheld device.
        weight: The largest part of a counter that one quantum draws, 0 to 1.
        apart: Whether no two of the options share a counter.
        finer: The same slot on the devices of the next finer quantum, where there are any.
    """

    display: SlotInfo
    quantum: Amount
    options: tuple[Option, ...]
    withheld: tuple[Option, ...]
    reasons: Mapping[str, str]
    weight: float
    apart: bool = True
    finer: ShelfSlot | None = None

    def amount(self, quanta: int) -> Amount:
        """Turn quanta into an amount."""
        return self.quantum.times(quanta)

    def serving(self, amount: Amount) -> ShelfSlot:
        """Choose the devices that serve a request: the coarsest quantum that divides it."""
        if self.finer is None or amount.quanta(self.quantum) is not None:
            return self
        return self.finer.serving(amount)

    @property
    def grains(self) -> tuple[ShelfSlot, ...]:
        """The slot by quantum, the coarsest first."""
        return (self, *(self.finer.grains if self.finer else ()))


@dataclass(frozen=True, slots=True)
class Shelf:
    """One plugin's devices and slots.

    Attributes:
        plugin: Its name.
        info: What it says of itself.
        known: Whether it has reported its devices; when not, what it reported last stands.
        devices: Its devices by id, in their own order.
        slots: What they offer, by slot.
        masked: Why the operator withholds a device, by id; also those without offers.
    """

    plugin: str
    info: PluginInfo
    known: bool = False
    devices: Mapping[str, Device] = field(default_factory=dict)
    slots: Mapping[str, ShelfSlot] = field(default_factory=dict)
    masked: Mapping[str, str] = field(default_factory=dict)

    def withheld(self, device: Device) -> str:
        """Say why a device gets no new grants; empty when it does."""
        if not device.offers and "reserved" in device.attributes:
            return "reserved for the system"
        return self.masked.get(device.id, "") or _unfit(device, self.devices)

    @property
    def counters(self) -> tuple[Counter, ...]:
        """All counters that its devices declare."""
        return tuple(c for d in self.devices.values() for c in d.counters)

    def draws(self, grant: Grant) -> dict[str, int] | None:
        """Say what a grant draws from the counters, or None when nobody here can tell."""
        device = self.devices.get(grant.device_id)
        offer = next((o for o in device.offers if o.slot == grant.slot), None) if device else None
        times = grant.amount.quanta(offer.quantum) if offer else None
        if offer is None or times is None:
            return None
        return {counter: drawn * times for counter, drawn in offer.draws.items()}

    def memory(self, grant: Grant) -> int | None:
        """Say how many bytes of its device's own memory a grant is, or None when nobody can tell.

        That is the part of all its memory that the grant is of the device's first counter: what a
        plugin draws from a counter of bytes beside it may be rounded.
        """
        device, drawn = self.devices.get(grant.device_id), self.draws(grant)
        if device is None or drawn is None or not device.counters:
            return None
        said = device.attributes.get("memory", "")
        sizes = [counter.capacity for counter in device.counters if counter.unit == "bytes"]
        whole = int(said) if said.isdecimal() else next(iter(sizes), None)
        first = device.counters[0]
        return None if whole is None else whole * drawn.get(first.id, 0) // first.capacity

    def whole(self, grant: Grant) -> dict[str, int] | None:
        """Say what the grant's device can draw at most, for a grant that `draws` cannot tell.

        This is so when a plugin offers its devices otherwise than before: what is not known to be
        free is then counted as taken.
        """
        device = self.devices.get(grant.device_id)
        if device is None:
            return None
        line = [device, *ancestors(device, self.devices)]
        own = next(({c.id: c.capacity for c in d.counters} for d in line if d.counters), {})
        capacity = {c.id: c.capacity for c in self.counters}
        return own or {c: capacity[c] for o in device.offers for c in o.draws}


def stock(
    plugin: str, info: PluginInfo, devices: Iterable[Device], mask: Sequence[str] = ()
) -> Shelf:
    """Arrange devices that `check_inventory` has passed; those in the mask are withheld."""
    by_id = {d.id: d for d in sorted(devices, key=lambda d: _natural(d.id))}
    offering: dict[str, list[tuple[Device, Offer]]] = {}
    for device in by_id.values():
        for offer in device.offers:
            offering.setdefault(offer.slot, []).append((device, offer))
    shelf = Shelf(plugin, info, True, by_id, {}, masked(by_id, mask))
    slots = {slot: _grains(shelf, slot, pairs) for slot, pairs in sorted(offering.items())}
    return replace(shelf, slots=slots)


def _grains(shelf: Shelf, name: str, pairs: list[tuple[Device, Offer]]) -> ShelfSlot:
    finest, *coarser = sorted({offer.quantum for _, offer in pairs})
    slot = _slot(shelf, name, [pair for pair in pairs if pair[1].quantum == finest])
    for quantum in coarser:
        same = [pair for pair in pairs if pair[1].quantum == quantum]
        slot = replace(_slot(shelf, name, same), finer=slot)
    return slot


def _slot(shelf: Shelf, name: str, pairs: list[tuple[Device, Offer]]) -> ShelfSlot:
    reasons = {d.id: why for d, _ in pairs if (why := shelf.withheld(d))}
    options = [
        (Option(d.id, d.numa_node, o.draws, d.health is Health.DEGRADED, o.most), d.id in reasons)
        for d, o in pairs
    ]
    capacity = {c.id: c.capacity for d in shelf.devices.values() for c in d.counters}
    given = tuple(option for option, withheld in options if not withheld)
    return ShelfSlot(
        display=shelf.info.slot(name) or SlotInfo(name, SlotType.COUNT),
        quantum=pairs[0][1].quantum,
        options=given,
        withheld=tuple(option for option, withheld in options if withheld),
        reasons=reasons,
        weight=max(drawn / capacity[c] for _, o in pairs for c, drawn in o.draws.items()),
        apart=apart(given),
    )


def empty_slot(name: str, info: PluginInfo) -> ShelfSlot:
    """Describe a slot that no device offers now."""
    display = info.slot(name) or SlotInfo(name, SlotType.COUNT)
    return ShelfSlot(display, Amount(1), (), (), {}, 0.0)


def _unfit(device: Device, by_id: Mapping[str, Device]) -> str:
    """Say which condition forbids grants: the device's own, or that of what it is a part of."""
    for part in [device, *ancestors(device, by_id)]:
        if part.health not in _GRANTABLE:
            whose = "" if part is device else f"its parent {part.id} is "
            return f"{whose}{part.health.value}" + (f": {part.evidence}" if part.evidence else "")
    return ""


def _natural(text: str) -> tuple[tuple[bool, int, str], ...]:
    """Sort ``cpu2`` before ``cpu10``, whatever order the plugin reported them in."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts if p)
