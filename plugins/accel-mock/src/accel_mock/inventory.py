"""Devices for the agent: what they offer, and the counters by which a card excludes its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from accel_mock.bay import Placed
from accel_mock.kind import Kind
from accel_mock.model import Card
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Health, Offer
from agent_core.contracts.info import SlotInfo, SlotType

_WHOLE: Final = Amount(1)
_BUS: Final = 0x99
_DESCRIPTIONS: Final = {
    "device": "Whole mock accelerators",
    "shares": "Shares of mock accelerators",
    "device:": "Partitions of mock accelerators",
}

_Offered = tuple[tuple[Counter, ...], tuple[Offer, ...]]


def devices_of(placed: Sequence[Placed]) -> Iterator[Device]:
    """Describe each device, a partition with its mother where that is there too."""
    cards = {each.card.id: each for each in placed if not each.card.profile}
    for each in placed:
        card, kind = each.card, each.kind
        mother = cards.get(card.mother) if card.profile else None
        if mother is not None and mother.kind.slot != kind.slot:
            mother = None
        counters, offers = _partition(kind, card, mother) if card.profile else _card(kind, card)
        yield Device(
            id=card.id,
            model=card.model,
            counters=counters,
            offers=offers,
            parent=mother.card.id if mother else None,
            physical_key=_address(kind, card),
            numa_node=card.numa_node,
            links=each.links,
            health=each.health,
            evidence=each.evidence if each.health is not Health.HEALTHY else "",
            attributes={
                **kind.rack.attributes,
                "index": str(card.index),
                "memory": str(card.memory),
                "processors": str(card.processors),
            },
        )


def _address(kind: Kind, card: Card) -> str:
    return f"{card.index >> 8:04x}:{(_BUS + kind.number) & 0xFF:02x}:{card.index & 0xFF:02x}.0"


def _card(kind: Kind, card: Card) -> _Offered:
    """Offer a card whole and, beside it, in shares; both draw on its parts and its memory."""
    quanta = max(1, kind.quanta(card)) if kind.dealing.shares else 1
    parts, memory = _counters(card.id)
    counters = (Counter(parts, quanta, "share"), Counter(memory, card.memory, "bytes"))
    whole = Offer(f"{kind.slot}.device", _WHOLE, {parts: quanta, memory: card.memory})
    if not kind.dealing.shares:
        return counters, (whole,)
    draws = {parts: 1, memory: kind.quantum_memory(card)}
    return counters, (whole, Offer(f"{kind.slot}.shares", kind.dealing.quantum, draws))


def _partition(kind: Kind, card: Card, mother: Placed | None) -> _Offered:
    """Offer a partition as it is; it takes its memory from the mother, if that is there.

    A whole card draws all its memory, so that it and any of its partitions exclude each other.
    """
    draws = {card.id: 1}
    if mother is not None:
        draws[_counters(mother.card.id)[1]] = min(card.memory, mother.card.memory)
    slot = f"{kind.slot}.device:{card.profile}-mig"
    return (Counter(card.id, 1, "partition"),), (Offer(slot, _WHOLE, draws),)


def _counters(device: str) -> tuple[str, str]:
    return f"{device}.parts", f"{device}.mem"


def slots_of(kinds: Sequence[Kind]) -> Iterator[SlotInfo]:
    """Declare every slot that the files have, those of devices that a script adds included."""
    for kind in kinds:
        for name in sorted(_names(kind)):
            shown, subtype = kind.rack.format_of(name), name.rpartition(".")[2].partition(":")
            yield SlotInfo(
                name,
                SlotType.UNIQUE if ":" in name else SlotType.COUNT,
                shown.description or _DESCRIPTIONS[subtype[0] + subtype[1]],
                shown.human_readable_name or kind.slot,
                shown.display_unit,
                shown.display_icon,
                shown.number_format,
            )


def _names(kind: Kind) -> set[str]:
    whole = any(not card.profile for card in kind.rack.cards)
    shares = whole and kind.dealing.shares
    return {
        *([f"{kind.slot}.device"] * whole),
        *([f"{kind.slot}.shares"] * shares),
        *(f"{kind.slot}.device:{card.profile}-mig" for card in kind.rack.cards if card.profile),
    }
