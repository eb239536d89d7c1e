"""The rows of the ledger as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class HoldState(StrEnum):
    """Where a hold is between being asked for and being given back."""

    TAKING = "taking"
    """Written before the thing is taken; whether it exists is not known."""
    HELD = "held"
    RELEASING = "releasing"
    """Being given back; whether it still exists is not known."""
    DIRTY = "dirty"
    """Giving it back failed; it is retried and never counted as free."""


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One acquired thing, or one kernel's use of a thing that several share.

    Attributes:
        kind: What it is; the step of this name knows how to give it back.
        key: The name that we chose for it before it existed, unique within the kind.
        kernel_id: Its owner.
        incarnation: The owner's incarnation that took it.
        state: Where it is between taking and giving back.
        undo: What is needed to give it back, and nothing else.
        order: Position in the order of taking; given back in reverse.
        note: Why it is dirty.
        shared: Whether other kernels may hold it too; the last of them gives it back.
    """

    kind: str
    key: str
    kernel_id: str
    incarnation: int = 1
    state: HoldState = HoldState.TAKING
    undo: Mapping[str, Any] = field(default_factory=dict)
    order: int = 0
    note: str = ""
    shared: bool = False

    def moved(self, state: HoldState, order: int | None = None) -> HoldRow:
        """Return the same hold in another state; a third of the cost of `replace`."""
        return HoldRow(
            self.kind,
            self.key,
            self.kernel_id,
            self.incarnation,
            state,
            self.undo,
            self.order if order is None else order,
            self.note,
            self.shared,
        )


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel; `version` grows by one with every change of the row."""

    kernel_id: str
    session_id: str
    state: str
    spec: Mapping[str, Any]
    spec_digest: str
    created_at: float
    incarnation: int = 1
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    container: str | None = None
    warnings: tuple[str, ...] = ()
    timings: tuple[tuple[str, float, float], ...] = ()
    version: int = 1


@dataclass(frozen=True, slots=True)
class EventRow:
    """One durable event; (epoch, sequence) never repeats, not even after a lost ledger."""

    epoch: str
    sequence: int
    name: str
    at: float
    kernel_id: str | None
    session_id: str | None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The event's id as clients see it."""
        return f"{self.epoch}-{self.sequence}"
