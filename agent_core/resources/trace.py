"""Why a decision came out as it did: plain data that goes into answers and errors.

It is worked out from an outcome when somebody asks: a decision that nobody asks about costs
nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from agent_core.resources.deciding import Outcome
from agent_core.resources.placement import Candidate, candidates, ranked

SHOWN: Final = 64
"""Candidates of one slot that an answer names."""
KEPT: Final = 16
"""Candidates of one slot that are kept with a kernel."""


@dataclass(frozen=True, slots=True)
class TraceStep:
    """What was found of one device for one slot.

    Attributes:
        slot: The slot that was asked for.
        plugin: Who offers it.
        device_id: The candidate.
        free: What could be had of it, as a decimal string.
        taken: What was taken of it, ``"0"`` when it was passed over.
        reason: Why.
        rank: Its place in the order of preference, 1 is the first; None when it was none.
        numa_node: Its NUMA node, where known.
    """

    slot: str
    plugin: str
    device_id: str
    free: str
    taken: str
    reason: str
    rank: int | None = None
    numa_node: int | None = None


def steps(outcome: Outcome) -> Iterator[TraceStep]:
    """Yield every device that offers the slot: first what was taken, then by preference."""
    want, slot = outcome.want, outcome.want.slot
    taken = outcome.placed.quanta if outcome.placed else {}
    found = _preferred(outcome)
    order = {c.option.device_id: n for n, c in enumerate(found, 1)}
    free = {c.option.device_id: c.free for c in found}
    names = dict.fromkeys([*taken, *order, *(o.device_id for o in slot.options), *slot.reasons])
    for name in names:
        yield TraceStep(
            slot=want.name,
            plugin=want.shelf.plugin,
            device_id=name,
            free=str(slot.amount(free.get(name, 0))),
            taken=str(slot.amount(taken.get(name, 0))),
            reason=_reason(outcome, name, free, taken),
            rank=order.get(name),
            numa_node=want.shelf.devices[name].numa_node,
        )


def _preferred(outcome: Outcome) -> list[Candidate]:
    want = outcome.want
    found = candidates(want.need, want.slot.options, outcome.room, outcome.near)
    holding = sorted(
        (c for c in found if c.free >= want.need),
        key=lambda c: (c.rank if outcome.near else c.rank[:1], c.free, -c.slack, c.order),
    )
    rest = [c for c in ranked(found) if c.free < want.need]
    return [*holding, *rest]


def _reason(outcome: Outcome, name: str, free: Mapping[str, int], taken: Mapping[str, int]) -> str:
    if outcome.placed and name in taken:
        near = outcome.want.shelf.devices[name].numa_node in outcome.near
        return outcome.placed.reason + (", on a NUMA node in use" if near else "")
    withheld = outcome.want.slot.reasons.get(name)
    return withheld or ("free" if free.get(name) else "full")


def render(trace: Iterable[TraceStep]) -> list[dict[str, Any]]:
    """Render the first steps of a trace for the details of an error."""
    return [
        {
            "slot": s.slot,
            "device": s.device_id,
            "free": s.free,
            "taken": s.taken,
            "reason": s.reason,
        }
        for s in islice(trace, SHOWN)
    ]


def summary(outcome: Outcome, shown: int = KEPT) -> dict[str, Any]:
    """Render what was decided of one slot as small JSON data.

    Args:
        outcome: What was decided.
        shown: How many candidates are named at most; the rest is counted.
    """
    want, slot = outcome.want, outcome.want.slot
    found = list(islice(steps(outcome), shown))
    return {
        "slot": want.name,
        "plugin": want.shelf.plugin,
        "type": slot.display.type.value,
        "asked": str(want.asked),
        "free": str(slot.amount(outcome.free)),
        "granted": outcome.placed is not None,
        "strategy": outcome.strategy.value,
        "near": sorted(outcome.near),
        "candidates": [_candidate(step) for step in found],
        "more": len(slot.options) + len(slot.reasons) - len(found),
    }


def _candidate(step: TraceStep) -> dict[str, Any]:
    return {
        "device_id": step.device_id,
        "numa_node": step.numa_node,
        "rank": step.rank,
        "free": step.free,
        "taken": step.taken,
        "reason": step.reason,
    }
