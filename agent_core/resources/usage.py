"""What the allocator answers with: decisions, and how much of what is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Device
from agent_core.contracts.errors import AgentError
from agent_core.contracts.info import SlotInfo, SlotType
from agent_core.resources.deciding import Outcomes
from agent_core.resources.remedies import Remedy
from agent_core.resources.trace import SHOWN, TraceStep, steps, summary


@dataclass(frozen=True, slots=True)
class Decision:
    """What was granted, one claim for each plugin, and what it was decided by."""

    claims: tuple[Claim, ...]
    outcomes: Outcomes

    @property
    def trace(self) -> tuple[TraceStep, ...]:
        """Every device that was looked at, and why it was taken or not."""
        return tuple(step for outcome in self.outcomes for step in steps(outcome))

    def summary(self) -> list[dict[str, Any]]:
        """Render why, slot by slot, as small JSON data to be kept with the kernel."""
        return [summary(outcome) for outcome in self.outcomes]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request would be answered with; nothing was taken.

    Attributes:
        claims: What would be granted; empty when anything does not fit.
        outcomes: What was decided of each slot.
        remedies: What would make a slot fit that does not, by slot.
        refusal: The error that the request would meet, or None.
    """

    claims: tuple[Claim, ...]
    outcomes: Outcomes
    remedies: Mapping[str, tuple[Remedy, ...]]
    refusal: AgentError | None

    def summary(self) -> list[dict[str, Any]]:
        """Render why, slot by slot, as JSON data."""
        return [
            {
                **summary(outcome, SHOWN),
                "remedies": [asdict(r) for r in self.remedies.get(outcome.want.name, ())],
            }
            for outcome in self.outcomes
        ]


@dataclass(frozen=True, slots=True)
class SlotUsage:
    """One slot of the node.

    Attributes:
        slot: Its name.
        plugin: Who offers it.
        type: How its amounts are counted.
        quantum: The smallest amount.
        total: What the devices hold, healthy or not.
        used: What is granted.
        free: What one more kernel could get now; of a unique slot, how many kernels could get one.
        display: How to show it.
        known: False while the plugin has not reported its devices: then nothing is free, and
            `quantum` and `total` are what it reported last, or 1 and 0.
    """

    slot: str
    plugin: str
    type: SlotType
    quantum: Amount
    total: Amount
    used: Amount
    free: Amount
    display: SlotInfo
    known: bool = True


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """One device.

    Attributes:
        plugin: Who has it.
        device: What it is.
        used: What is granted of it, by slot.
        known: Whether its plugin has reported it.
        withheld: Why it gets no new grants; empty when it does.
    """

    plugin: str
    device: Device
    used: Mapping[str, Amount]
    known: bool = True
    withheld: str = ""
