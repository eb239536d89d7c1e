"""What is known of a node's cards, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from agent_core.contracts.device import Health


@dataclass(frozen=True, slots=True)
class Partition:
    """One MIG instance.

    Attributes:
        id: Its UUID, ``MIG-...``.
        model: What the driver calls it.
        memory: Bytes of its GPU instance.
        gpu_instance: The number of its GPU instance on the card.
        compute_instance: Its number within the GPU instance.
        slices: Its compute slices.
        instance_slices: The compute slices of the whole GPU instance.
        access: The numbers of the ``/dev/nvidia-caps`` nodes that open it.
    """

    id: str
    model: str
    memory: int
    gpu_instance: int
    compute_instance: int
    slices: int = 0
    instance_slices: int = 0
    access: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU.

    Attributes:
        id: Its UUID, ``GPU-...``.
        model: What the driver calls it.
        index: Its position in the driver's list, which may change at every boot.
        minor: The number of its device node, or None where it has none.
        address: Its PCI address as sysfs writes it, ``0000:3b:00.0``; "" when never read.
        numa_node: Its NUMA node, or None when unknown.
        memory: Bytes; 0 where it has none of its own but shares the host's.
        mig: Whether it is in MIG mode, or None where it has no such mode.
        partitions: Its MIG instances, in order.
        health: Its condition.
        evidence: Why it is in that condition.
    """

    id: str
    model: str = "NVIDIA GPU"
    index: int = 0
    minor: int | None = None
    address: str = ""
    numa_node: int | None = None
    memory: int = 0
    mig: bool | None = None
    partitions: tuple[Partition, ...] = ()
    health: Health = Health.HEALTHY
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Rack:
    """The cards of the node and the driver's versions."""

    driver: str = ""
    cuda: str = ""
    cards: tuple[Card, ...] = ()
