"""What the allocator answers with: decisions, and how much of what is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Device
from agent_core.contracts.info import SlotInfo, SlotType
from agent_core.resources.trace import TraceStep


@dataclass(frozen=True, slots=True)
class Decision:
    """What was granted, one claim for each plugin, and why these devices."""

    claims: tuple[Claim, ...]
    trace: tuple[TraceStep, ...]


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
    """One device, what is granted of it by slot, and whether its plugin has reported it."""

    plugin: str
    device: Device
    used: Mapping[str, Amount]
    known: bool = True
