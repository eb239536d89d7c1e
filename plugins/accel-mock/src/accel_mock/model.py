"""What the file of mock accelerators says, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from agent_core.contracts.device import Health
from agent_core.contracts.info import NumberFormat

Place = tuple[str | int, ...]
"""Where a value stands in a file: keys, and numbers within arrays."""

_PLAIN = NumberFormat()


@dataclass(frozen=True, slots=True)
class SlotFormat:
    """How a slot is shown: one table ``[formats.<subtype>]``."""

    human_readable_name: str = ""
    description: str = ""
    display_unit: str = ""
    display_icon: str = ""
    number_format: NumberFormat = _PLAIN


@dataclass(frozen=True, slots=True)
class Card:
    """One device: an entry of ``devices``, or one of the many that its ``count`` stands for.

    Attributes:
        id: The mother's UUID, or for a partition ``MIG-<mother>/<number>/0``.
        index: Its position in the file.
        mother: The mother's UUID.
        model: The model's name.
        numa_node: Its NUMA node, or None.
        processors: Its sub-processors.
        memory: Its memory in bytes.
        profile: For a MIG partition what comes after ``MIG-`` in the model's name, else "".
        health: Its condition by the file.
        evidence: Why it is in that condition.
    """

    id: str
    index: int
    mother: str
    model: str
    numa_node: int | None
    processors: int
    memory: int
    profile: str = ""
    health: Health = Health.HEALTHY
    evidence: str = ""


class Verb(StrEnum):
    """What a step of a script does."""

    HEALTH = "health"
    REMOVE = "remove"
    ADD = "add"
    LINK = "link"
    UNLINK = "unlink"


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of ``script``: what happens to devices at a time after the plugin was opened.

    Attributes:
        earliest: Seconds after the opening.
        latest: The same, or later: the time is then drawn between the two.
        every: Seconds until it happens again; 0 is once.
        verb: What happens.
        devices: To which devices.
        value: The condition, or the kind of the link.
        evidence: Why the device is in that condition.
    """

    earliest: float
    latest: float
    every: float
    verb: Verb
    devices: tuple[str, ...]
    value: str = ""
    evidence: str = ""


Links = Mapping[frozenset[str], str]
"""The kind of each link, by the two devices that it connects."""


@dataclass(frozen=True, slots=True)
class Rack:
    """One file.

    Attributes:
        path: Where it lies.
        slot: What its slots' names begin with.
        implementation: ``CUDADevice`` or ``MockDevice``.
        cards: Its devices.
        late: The ids of those that only a script plugs in.
        attributes: Facts that each of its devices has.
        formats: How its slots are shown, by subtype.
        links: The links between its devices.
        script: What happens to its devices.
        warnings: What is odd in it and no fault.
    """

    path: Path
    slot: str
    implementation: str
    cards: tuple[Card, ...]
    late: frozenset[str] = frozenset()
    attributes: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, SlotFormat] = field(default_factory=dict)
    links: Links = field(default_factory=dict)
    script: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()

    def format_of(self, slot: str) -> SlotFormat:
        """Find the format of a slot: by its subtype, or for partitions by ``*-mig``."""
        subtype = slot.partition(".")[2]
        names = (subtype, subtype.partition(":")[2], "*-mig") if ":" in subtype else (subtype,)
        return next((self.formats[n] for n in names if n in self.formats), SlotFormat())
