"""What the file of mock accelerators says, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent_core.contracts.info import NumberFormat

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
    """One entry of ``devices``.

    Attributes:
        id: The mother's UUID, or for a partition ``MIG-<mother>/<number>/0``.
        index: Its position in the file.
        mother: The mother's UUID.
        model: The model's name.
        numa_node: Its NUMA node, or None.
        processors: Its sub-processors.
        memory: Its memory in bytes.
        profile: For a MIG partition what comes after ``MIG-`` in the model's name, else "".
    """

    id: str
    index: int
    mother: str
    model: str
    numa_node: int | None
    processors: int
    memory: int
    profile: str = ""


@dataclass(frozen=True, slots=True)
class Rack:
    """The whole file."""

    slot: str
    implementation: str
    cards: tuple[Card, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, SlotFormat] = field(default_factory=dict)

    def format_of(self, slot: str) -> SlotFormat:
        """Find the format of a slot: by its subtype, or for partitions by ``*-mig``."""
        subtype = slot.partition(".")[2]
        names = (subtype, subtype.partition(":")[2], "*-mig") if ":" in subtype else (subtype,)
        return next((self.formats[n] for n in names if n in self.formats), SlotFormat())
