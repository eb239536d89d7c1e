"""The contract of devices: what a vendor implements to offer slots to kernels.

A device is one thing that slots are taken from. What it offers draws on counters, so that a whole
card, a share and a partition of one card exclude each other by arithmetic and not by rules:

    Device(
        id="GPU-8f2c",
        model="ACME One",
        counters=(Counter("GPU-8f2c", 100, "part"),),
        offers=(
            Offer("acme.device", Amount(1), {"GPU-8f2c": 100}),
            Offer("acme.shares", Amount(1, 2), {"GPU-8f2c": 1}),
        ),
    )

Here one `acme.device` draws all 100 parts and 0.01 `acme.shares` draws one. All methods are
synchronous, since vendors' libraries block; the host calls them in lanes of their own. Every
argument and every reply is plain data.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from agent_core.contracts.amount import Amount
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import Plugin


class Health(StrEnum):
    """What is known of a device's condition."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Counter:
    """A finite quantity that offers draw from; the id is unique on the node."""

    id: str
    capacity: int
    unit: str = "part"


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to take from a device.

    Attributes:
        slot: The slot's name.
        quantum: The smallest amount; every grant is a multiple of it. Where the devices of one
            slot differ in it, each quantum is a multiple of the next finer one, and a request is
            served by the devices of one quantum alone: the coarsest that divides it.
        draws: How much one quantum draws from each counter, by counter id.
        most: The most quanta that one kernel may have of this device; None is without bound. A
            core that several kernels may share is still given to each of them only once.
    """

    slot: str
    quantum: Amount
    draws: Mapping[str, int]
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One thing that slots are taken from.

    Attributes:
        id: Stable over reboots: a UUID or serial, never an index.
        model: What a person calls it.
        counters: What its offers (and those of its children) draw from.
        offers: The ways to take from it.
        parent: The id of the device that this is a part of.
        physical_key: Where it is, such as a PCI address.
        numa_node: Its NUMA node, or None when unknown.
        links: Bandwidth class by the id of the linked device.
        health: Its condition.
        evidence: Why it is in that condition.
        attributes: Plain facts for people and for matching.
    """

    id: str
    model: str
    counters: tuple[Counter, ...] = ()
    offers: tuple[Offer, ...] = ()
    parent: str | None = None
    physical_key: str | None = None
    numa_node: int | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    health: Health = Health.HEALTHY
    evidence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grant:
    """An amount of one slot taken from one device."""

    slot: str
    device_id: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Claim:
    """What one kernel is given of one plugin; the id is the key of every later call."""

    id: str
    kernel_id: str
    incarnation: int
    plugin: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class PrepareContext:
    """What a plugin may need beyond the claim to prepare a device.

    Attributes:
        config_dir: A directory of this kernel and plugin, on the host, which the kernel sees.
    """

    config_dir: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One running kernel to measure.

    Attributes:
        kernel_id: The kernel.
        claims: What it holds of this plugin.
        pids: Its processes on the host.
        cgroups: Its cgroup directory by controller; empty when it has none.
    """

    kernel_id: str
    claims: tuple[Claim, ...] = ()
    pids: tuple[int, ...] = ()
    cgroups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One reading; what could not be read is left out, never reported as zero.

    Attributes:
        metric: The name of a declared series.
        value: In the series' base unit.
        at: Seconds since the epoch when it was read.
        kernel_id: The kernel, for the scope `kernel`.
        device_id: The device, for the scope `device`.
        capacity: The most it can be, where that has a meaning.
    """

    metric: str
    value: float
    at: float
    kernel_id: str | None = None
    device_id: str | None = None
    capacity: float | None = None


class ComputeDevice(Plugin):
    """What a device plugin implements: `devices` and `describe`; the rest has defaults."""

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """List all devices with their present health; ids are stable and unique."""
        raise NotImplementedError

    @abstractmethod
    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        """Say what a container needs for these grants: pure, without any side effect."""
        raise NotImplementedError

    def prepare(self, claim: Claim, context: PrepareContext) -> ContainerEdits:
        """Take the devices of a claim where that has a side effect; idempotent by claim id."""
        return self.describe(claim.grants)

    def release(self, claim: Claim) -> None:
        """Undo `prepare`; succeeds when there is nothing left to undo.

        The claim's id says what to undo. One that only `prepared` knows comes without grants.
        """

    def prepared(self) -> Sequence[str]:
        """List the ids of claims that hold something outside, so that leaks can be found."""
        return ()

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        """Read the declared series once, for the node, its devices and these kernels."""
        return ()
