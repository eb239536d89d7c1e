"""Cards as devices: what they offer, and the counters by which a card and its parts exclude."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Final

from accel_cuda.model import Card, Partition, Rack
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Offer

WHOLE: Final = "cuda.device"
PARTITIONS: Final = "cuda.device:*-mig"

_PARTS: Final = 100
_ONE: Final = Amount(1)
_GIB: Final = 1 << 30
_PROFILE: Final = re.compile(r"\bMIG (?:\d+c\.)?\d+g\.(\d+)gb")


def devices_of(rack: Rack) -> Iterator[Device]:
    """Describe each card, followed by its MIG instances."""
    facts = {key: value for key, value in _facts(rack) if value}
    for card in rack.cards:
        counters, whole = _counters(card)
        yield Device(
            id=card.id,
            model=card.model,
            counters=counters,
            offers=(Offer(WHOLE, _ONE, whole),) if whole and not card.mig else (),
            physical_key=card.address or None,
            numa_node=card.numa_node,
            health=card.health,
            evidence=card.evidence,
            attributes={**facts, **dict(_of_card(card))},
        )
        for partition in card.partitions:
            yield _partition(card, partition, facts)


def _partition(card: Card, partition: Partition, facts: dict[str, str]) -> Device:
    parts, memory = counter_names(card.id)
    share = _shares(card)[partition.id]
    draws = {
        partition.id: 1,
        # One part each and the others by memory: never none, and never more than all together.
        parts: 1 + (_PARTS - len(card.partitions)) * share // max(1, _capacity(card)),
        **({memory: share} if share else {}),
    }
    return Device(
        id=partition.id,
        model=partition.model,
        counters=(Counter(partition.id, 1, "partition"),),
        offers=(Offer(slot_of(partition), _ONE, draws),),
        parent=card.id,
        physical_key=card.address or None,
        numa_node=card.numa_node,
        health=card.health,
        evidence=card.evidence,
        attributes={
            **facts,
            "memory": str(partition.memory),
            "gpu-instance": str(partition.gpu_instance),
            "compute-instance": str(partition.compute_instance),
        },
    )


def slot_of(partition: Partition) -> str:
    """Name the slot of a MIG instance by its memory, such as ``cuda.device:10g-mig``.

    One that has only some of its GPU instance's compute slices says how many, since the others
    share its memory: ``cuda.device:1c.20g-mig``.
    """
    named = _PROFILE.search(partition.model)
    size = int(named.group(1)) if named else -(-partition.memory // _GIB)
    part = f"{partition.slices}c." if partition.slices < partition.instance_slices else ""
    return f"{WHOLE}:{part}{size}g-mig"


def counter_names(card: str) -> tuple[str, str]:
    """Name the counters of a card: its parts and its memory."""
    return f"{card}.parts", f"{card}.mem"


def _counters(card: Card) -> tuple[tuple[Counter, ...], dict[str, int]]:
    """Make a card's counters, and what drawing all of them is; none where nothing is known."""
    if not card.address:
        return (), {}
    parts, memory = counter_names(card.id)
    counters, whole = (Counter(parts, _PARTS),), {parts: _PARTS}
    if not _capacity(card):
        return counters, whole
    size = Counter(memory, _capacity(card), "bytes")
    return (*counters, size), {**whole, memory: size.capacity}


def _capacity(card: Card) -> int:
    """Take what the instances add up to where the driver's total is less than that."""
    return max(card.memory, sum(_shares(card).values()))


def _shares(card: Card) -> dict[str, int]:
    """Give each instance its memory, or its part where several share one GPU instance."""
    sharers = Tally(partition.gpu_instance for partition in card.partitions)
    return {p.id: p.memory // sharers[p.gpu_instance] for p in card.partitions}


def _facts(rack: Rack) -> Iterator[tuple[str, str]]:
    yield "nvidia_driver", rack.driver
    yield "cuda_runtime", rack.cuda


def _of_card(card: Card) -> Iterator[tuple[str, str]]:
    yield "index", str(card.index)
    yield "memory", str(card.memory)
    if card.mig is not None:
        yield "mig", "enabled" if card.mig else "disabled"
