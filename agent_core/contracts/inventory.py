"""What a plugin says it has, checked as a whole before any of it is believed."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Health, Offer
from agent_core.contracts.errors import PluginContractBroken, bullet_list
from agent_core.contracts.info import PluginInfo, SlotType

MAX_DEVICES: Final = 4096
"""More devices than any node has: a reply beyond this is garbage."""
_MAX_PARTS: Final = 256
_MAX_TEXT: Final = 1024
_MAX_AMOUNT: Final = 1 << 63
_MAX_SCALE: Final = 18
_MAX_FAULTS: Final = 20


def check_inventory(plugin: str, info: PluginInfo, devices: object) -> tuple[Device, ...]:
    """Check a reply of `ComputeDevice.devices` and return it as it is.

    Raises:
        PluginContractBroken: when anything in it is wrong; all faults are in ``details.faults``
            and none of it may be used.
    """
    faults = list(_faults(info, devices))
    if faults:
        shown = faults[:_MAX_FAULTS]
        if len(faults) > len(shown):
            shown.append(f"and {len(faults) - len(shown)} more")
        raise PluginContractBroken(
            f"plugin {plugin!r} reported devices that cannot be used; the previous inventory "
            f"stands: {bullet_list(shown)}",
            plugin=plugin,
            stage="devices",
            details={"faults": shown},
        )
    assert isinstance(devices, Sequence)  # noqa: S101  narrowed by _faults, which found none
    return tuple(devices)


def _faults(info: PluginInfo, devices: object) -> Iterator[str]:
    if isinstance(devices, str | bytes) or not isinstance(devices, Sequence):
        yield f"the reply is a {type(devices).__name__}, not a sequence of Device"
        return
    if len(devices) > MAX_DEVICES:
        yield f"{len(devices)} devices; {MAX_DEVICES} is the most"
        return
    odd = [f"item {i} is a {type(d).__name__}, not a Device" for i, d in enumerate(devices)
           if not isinstance(d, Device)]  # fmt: skip
    shapes = [fault for d in devices if isinstance(d, Device) for fault in _shape(d)]
    if odd or shapes:
        yield from odd
        yield from shapes
        return
    by_id = {d.id: d for d in devices}
    yield from _identities(devices)
    yield from _parents(by_id)
    for device in devices:
        yield from _offers(info, device, _reach(device, by_id))
    yield from _quanta(devices)


def _shape(device: Device) -> Iterator[str]:
    """Find fields of the wrong type or of absurd size, so that all later checks can trust them."""
    name = f"device {device.id!r}" if _is_text(device.id) else "a device"
    if not _is_text(device.id) or not device.id.isprintable():
        yield f"{name} has the id {str(device.id)[:40]!r}; an id is a short printable text"
    texts = {"model": device.model, "evidence": device.evidence}
    optional = {"parent": device.parent, "physical_key": device.physical_key}
    for field, value in {**texts, **optional}.items():
        if not (value is None and field in optional) and not _is_text(value, empty=True):
            yield f"{name}: {field} is not a text of at most {_MAX_TEXT} characters"
    if device.numa_node is not None and not _is_whole(device.numa_node, least=0):
        yield f"{name}: numa_node {device.numa_node!r} is not a node; unknown is None"
    if not isinstance(device.health, Health):
        yield f"{name}: health {str(device.health)[:40]!r} is not a Health"
    for field, facts in {"attributes": device.attributes, "links": device.links}.items():
        if not _is_facts(facts):
            yield f"{name}: {field} is not a short map of text to text"
    yield from (f"{name}: {fault}" for fault in _list_of(device.counters, Counter, "counters"))
    yield from (f"{name}: {fault}" for fault in _list_of(device.offers, Offer, "offers"))


def _list_of(items: object, kind: type[Counter | Offer], field: str) -> Iterator[str]:
    if not isinstance(items, tuple | list) or len(items) > _MAX_PARTS:
        yield f"{field} is not a tuple of at most {_MAX_PARTS}"
        return
    for item in items:
        if not isinstance(item, Counter | Offer) or not isinstance(item, kind):
            yield f"{field} holds a {type(item).__name__}, not a {kind.__name__}"
        elif isinstance(item, Counter):
            yield from _counter_shape(item)
        else:
            yield from _offer_shape(item)


def _counter_shape(counter: Counter) -> Iterator[str]:
    if not _is_text(counter.id):
        yield f"a counter has the id {str(counter.id)[:40]!r}; an id is a short text"
    if not _is_whole(counter.capacity, least=1):
        yield f"counter {counter.id!r} has the capacity {counter.capacity!r}, not a positive whole"


def _offer_shape(offer: Offer) -> Iterator[str]:
    if not _is_text(offer.slot):
        yield f"an offer has the slot {str(offer.slot)[:40]!r}; a slot is a short text"
    if not _is_quantum(offer.quantum):
        yield f"offer {offer.slot!r} has the quantum {offer.quantum!r}, not a positive Amount"
    if offer.most is not None and not _is_whole(offer.most, least=1):
        yield f"offer {offer.slot!r} gives at most {offer.most!r}, not a positive whole"
    draws: object = offer.draws
    if not isinstance(draws, Mapping) or not 0 < len(draws) <= _MAX_PARTS:
        yield f"offer {offer.slot!r} draws from no counter, or from more than {_MAX_PARTS}"
        return
    for counter, drawn in draws.items():
        if not _is_text(counter) or not _is_whole(drawn, least=1):
            yield f"offer {offer.slot!r} draws {drawn!r} from {counter!r}, not a positive whole"


def _is_text(value: object, *, empty: bool = False) -> bool:
    return isinstance(value, str) and (empty or value != "") and len(value) <= _MAX_TEXT


def _is_whole(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < _MAX_AMOUNT


def _is_quantum(value: object) -> bool:
    return (
        isinstance(value, Amount)
        and _is_whole(value.value, least=1)
        and _is_whole(value.scale, least=0)
        and value.scale <= _MAX_SCALE
    )


def _is_facts(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) <= _MAX_PARTS
        and all(_is_text(k) and _is_text(v, empty=True) for k, v in value.items())
    )


def _identities(devices: Sequence[Device]) -> Iterator[str]:
    for what, ids in {
        "device": [d.id for d in devices],
        "counter": [c.id for d in devices for c in d.counters],
    }.items():
        for repeated, times in Tally(ids).items():
            if times > 1:
                yield f"{what} {repeated!r} is there {times} times"


def _parents(by_id: Mapping[str, Device]) -> Iterator[str]:
    for device in by_id.values():
        if device.parent is not None and device.parent not in by_id:
            yield f"device {device.id!r} has the parent {device.parent!r}, which is not there"
        elif any(above.id == device.id for above in ancestors(device, by_id)):
            yield f"device {device.id!r} is an ancestor of itself"


def ancestors(device: Device, by_id: Mapping[str, Device]) -> list[Device]:
    """List the devices that this one is a part of, the nearest first."""
    found: dict[str, Device] = {}
    above = by_id.get(device.parent or "")
    while above is not None and above.id not in found:
        found[above.id] = above
        above = by_id.get(above.parent or "")
    return list(found.values())


def _reach(device: Device, by_id: Mapping[str, Device]) -> dict[str, int]:
    """Collect the capacity of every counter that a device may draw on: its own and those above."""
    line = [device, *ancestors(device, by_id)]
    return {c.id: c.capacity for d in line for c in d.counters}


def _offers(info: PluginInfo, device: Device, reach: Mapping[str, int]) -> Iterator[str]:
    seen: set[str] = set()
    for offer in device.offers:
        where = f"device {device.id!r}: offer {offer.slot!r}"
        if offer.slot in seen:
            yield f"{where} is there twice"
        seen.add(offer.slot)
        display = info.slot(offer.slot)
        if display is None:
            yield f"{where} is not among the slots that the plugin declares"
        elif display.type is SlotType.UNIQUE and offer.quantum != Amount(1):
            yield f"{where} is unique, so its quantum is 1, not {offer.quantum}"
        elif display.type is SlotType.BYTES and offer.quantum.scale:
            yield f"{where} is in bytes, so its quantum is whole, not {offer.quantum}"
        for counter, drawn in offer.draws.items():
            if counter not in reach:
                yield f"{where} draws from {counter!r}, which is no counter of it or its parents"
            elif drawn > reach[counter]:
                yield f"{where} draws {drawn} from {counter!r}, which holds {reach[counter]}"


def _quanta(devices: Sequence[Device]) -> Iterator[str]:
    quanta: dict[str, set[Amount]] = {}
    for device in devices:
        for offer in device.offers:
            quanta.setdefault(offer.slot, set()).add(offer.quantum)
    for slot, found in quanta.items():
        in_order = sorted(found)
        if any(coarse.quanta(fine) is None for fine, coarse in pairwise(in_order)):
            listed = ", ".join(map(str, in_order))
            yield f"slot {slot!r} has quanta of which one is no multiple of a finer one ({listed})"
