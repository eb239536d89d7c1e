"""The typed models of decisions about slots: what a create would get, and why a kernel has it."""

from __future__ import annotations

from typing import Any

from agent_core.wire.models import GrantRow, Model


class CandidateRow(Model):
    """One device that was looked at for a slot; ``rank`` 1 is preferred, None is no choice."""

    device_id: str
    numa_node: int | None = None
    rank: int | None = None
    free: str
    taken: str
    reason: str


class RemedyRow(Model):
    """One thing that would make a slot fit.

    ``kind`` is end-kernels, ask-less, devices (some are withheld) or another-node.
    """

    kind: str
    text: str
    kernels: tuple[str, ...] = ()
    amount: str = ""


class SlotDecision(Model):
    """What was decided of one slot; ``free`` is what the kernel could have had just then.

    ``more`` candidates were looked at and are not named. ``near`` are the NUMA nodes that the
    kernel used already, by the slots before.
    """

    slot: str
    plugin: str
    type: str
    asked: str
    free: str
    granted: bool
    strategy: str
    near: tuple[int, ...] = ()
    candidates: tuple[CandidateRow, ...] = ()
    more: int = 0
    remedies: tuple[RemedyRow, ...] = ()


class Plan(Model):
    """What a create would get now; nothing was taken. ``refusal`` is the error it would meet."""

    kernel_id: str
    granted: bool
    grants: tuple[GrantRow, ...] = ()
    slots: tuple[SlotDecision, ...] = ()
    refusal: dict[str, Any] | None = None


class Explanation(Model):
    """Why a kernel has what it has: its grants, and the decisions that gave them."""

    kernel_id: str
    state: str
    incarnation: int
    grants: tuple[GrantRow, ...] = ()
    slots: tuple[SlotDecision, ...] = ()
    notes: tuple[str, ...] = ()
