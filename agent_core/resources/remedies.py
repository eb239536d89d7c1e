"""What would make a refused request fit: kernels to end, devices to free, or asking for less.

The search is bounded, so that a refusal costs about as much however many kernels run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from agent_core.contracts.info import SlotType
from agent_core.resources.counters import Counters, Room
from agent_core.resources.deciding import Outcome, Want, decide
from agent_core.resources.holdings import Holding
from agent_core.resources.placement import Strategy, available

_HOLDINGS: Final = 512
"""Claims that are looked at for what ending their kernels would free."""
_KERNELS: Final = 16
"""Kernels that are tried alone, and that may have to end together."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that would make it fit.

    Attributes:
        kind: ``end-kernels``, ``ask-less``, ``devices`` (withheld ones) or ``another-node``.
        text: What to do, for people.
        kernels: The kernels that would have to end.
        amount: What could be had now, as a decimal string.
    """

    kind: str
    text: str
    kernels: tuple[str, ...] = ()
    amount: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What remedies are searched in.

    Attributes:
        counters: The counters of the node.
        holdings: The claims that stand.
        strategy: How a request would be split.
    """

    counters: Counters
    holdings: Iterable[Holding]
    strategy: Strategy


def remedies(outcome: Outcome, wants: Sequence[Want], ground: Ground) -> tuple[Remedy, ...]:
    """Say what would make a slot fit that does not, the most useful first.

    Args:
        outcome: The refused slot.
        wants: The whole request, as it was decided.
        ground: The state that it was decided in.
    """
    want, slot = outcome.want, outcome.want.slot
    most = available(slot.options, Room(ground.counters.capacity), are_apart=slot.apart)
    if most < want.need:
        return tuple(_beyond(outcome, most, ground))
    return tuple(_within(outcome, wants, ground))


def _within(outcome: Outcome, wants: Sequence[Want], ground: Ground) -> Iterator[Remedy]:
    slot, free = outcome.want.slot, outcome.free
    missing = slot.amount(max(outcome.want.need - free, 0))
    kernels = _to_end(outcome, wants, ground)
    if kernels:
        which = f"kernel {kernels[0]}" if len(kernels) == 1 else f"kernels {', '.join(kernels)}"
        what = f"free {missing} more {outcome.want.name}" if missing else "free what it needs"
        yield Remedy("end-kernels", f"{what}, e.g. by ending {which}", kernels)
    elif missing:
        yield Remedy("end-kernels", f"free {missing} more {outcome.want.name} by ending kernels")
    yield from _less(outcome, free)


def _beyond(outcome: Outcome, most: int, ground: Ground) -> Iterator[Remedy]:
    """What to do about more than a kernel could have if it were alone here."""
    slot = outcome.want.slot
    everything = [*slot.options, *slot.withheld]
    if available(everything, Room(ground.counters.capacity)) >= outcome.want.need:
        whom = "; ".join(f"{d}: {why}" for d, why in islice(slot.reasons.items(), 4))
        yield Remedy("devices", f"give devices free again that are withheld ({whom})")
    else:
        limit = slot.amount(most)
        text = f"ask another node: one kernel gets at most {limit} here, whoever ends"
        yield Remedy("another-node", text, amount=str(limit))
    yield from _less(outcome, outcome.free)


def _less(outcome: Outcome, free: int) -> Iterator[Remedy]:
    slot = outcome.want.slot
    if 0 < free < outcome.want.need and slot.display.type is not SlotType.UNIQUE:
        amount = str(slot.amount(free))
        yield Remedy("ask-less", f"ask for {amount}", amount=amount)


def _to_end(outcome: Outcome, wants: Sequence[Want], ground: Ground) -> tuple[str, ...]:
    """Find few kernels whose end makes room: one alone if any, the one with the least."""
    held = _held(outcome, ground)
    by_size = sorted(held, key=lambda kernel: (sum(held[kernel].values()), kernel))

    def helps(kernels: Sequence[str]) -> bool:
        room = ground.counters.without(_together([held[k] for k in kernels]))
        slot = outcome.want.slot
        if available(slot.options, room, are_apart=slot.apart) < outcome.want.need:
            return False
        # Another slot that is short for its own sake must not hide that this one would fit.
        decided = decide(wants, room, ground.strategy)
        return any(o.want is outcome.want and o.placed is not None for o in decided)

    for kernel in _spread(by_size):
        if helps([kernel]):
            return (kernel,)
    largest = by_size[::-1][:_KERNELS]
    count = next((n for n in range(2, len(largest) + 1) if helps(largest[:n])), 0)
    return tuple(sorted(largest[:count]))


def _spread(by_size: Sequence[str]) -> list[str]:
    """Take some of the kernels, the largest of all among them."""
    if len(by_size) <= _KERNELS:
        return list(by_size)
    step = (len(by_size) - 1) / (_KERNELS - 1)
    return [by_size[round(n * step)] for n in range(_KERNELS)]


def _held(outcome: Outcome, ground: Ground) -> dict[str, dict[str, int]]:
    """Sum by kernel what the claims draw from the counters of this slot's devices."""
    counters = {c for option in outcome.want.slot.options for c in option.draws}
    held: dict[str, dict[str, int]] = {}
    for holding in islice(ground.holdings, _HOLDINGS):
        for counter, drawn in holding.total().items():
            if counter in counters:
                of = held.setdefault(holding.claim.kernel_id, {})
                of[counter] = of.get(counter, 0) + drawn
    return held


def _together(held: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for draws in held:
        for counter, drawn in draws.items():
            total[counter] = total.get(counter, 0) + drawn
    return total
