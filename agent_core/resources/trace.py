"""Why a decision came out as it did: plain data that goes into answers and errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

_SHOWN: Final = 64


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
    """

    slot: str
    plugin: str
    device_id: str
    free: str
    taken: str
    reason: str


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
        for s in islice(trace, _SHOWN)
    ]
