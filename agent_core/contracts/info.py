"""What every plugin says of itself as plain data, and the lifetime that every plugin shares.

class AcmeDevice(ComputeDevice):
    info = PluginInfo(
        kind="device",
        name="acme",
        summary="ACME accelerators",
        slots=(SlotInfo("acme.device", SlotType.COUNT, human_readable_name="ACME"),),
    )
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final


class Support(StrEnum):
    """Whether a plugin can do something; what nobody declared is unknown."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class EditOutcome(StrEnum):
    """What becomes of the edits of one field."""

    APPLIED = "applied"
    """The processes of the container find it as it was asked."""
    WITHOUT_EFFECT = "without-effect"
    """Accepted, and nothing is done about it."""
    REFUSED = "refused"
    """Refused as unsupported before anything is taken."""


@dataclass(frozen=True, slots=True)
class EditTreatment:
    """What a backend makes of one field of the edits.

    Attributes:
        outcome: What becomes of what can be honoured at all.
        note: In words, what is refused or left undone beside it.
    """

    outcome: EditOutcome
    note: str = ""


class Reconfigured(StrEnum):
    """What became of a changed configuration."""

    APPLIED = "applied"
    NEEDS_RESTART = "needs-restart"


class SlotType(StrEnum):
    """How amounts of a slot are counted."""

    COUNT = "count"
    """Whole things, or fractions of them where the offer's quantum is below one."""
    BYTES = "bytes"
    """Whole bytes; written with binary suffixes."""
    UNIQUE = "unique"
    """Exactly one of it for one kernel, such as one MIG partition."""


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How a person reads amounts: binary suffixes or not, and how many decimals."""

    binary: bool = False
    round_length: int = 0


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One slot and how to show it; the name is ``<plugin>.<subtype>`` except for cpu and mem.

    A name may end in a glob (``cuda.device:*-mig``): it then describes all slots that match.
    """

    name: str
    type: SlotType
    description: str = ""
    human_readable_name: str = ""
    display_unit: str = ""
    display_icon: str = ""
    number_format: NumberFormat = NumberFormat()


CORE_SLOTS: Final = ("cpu", "mem")
"""The slots without a subtype; only agent-core's own plugins offer them."""

SLOT_NAME: Final = re.compile(r"[a-z*][a-z0-9_*-]*\.[a-z0-9*][a-z0-9_*-]*(:[A-Za-z0-9_.*-]+)?")
"""How every other slot is named: device, subtype and, after a colon, a profile; may be a glob."""


class MetricType(StrEnum):
    """How a series behaves over time."""

    GAUGE = "gauge"
    COUNTER = "counter"


class MetricScope(StrEnum):
    """What a series is about."""

    NODE = "node"
    DEVICE = "device"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """A declared series, by name and scope.

    The unit is a base unit: bytes, seconds, ratio, watts, celsius or count.
    """

    name: str
    unit: str
    type: MetricType
    scope: MetricScope
    description: str = ""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """All that is known of a plugin without opening it.

    Attributes:
        kind: backend, device, scratch or runner.
        name: The name of its entry point.
        summary: One line for people.
        config_schema: JSON Schema of the plugin's own section ``[plugin.<name>]``.
        sections: Dotted names of other sections that are this plugin's when it is selected, such
            as ``agent.delay``; they come as nested tables in the same configuration.
        slots: The slots it may offer, with display metadata.
        exclusive_slots: Globs of slots of which one kernel may ask only one, for each name before
            the dot.
        metrics: The series it measures.
        capabilities: What it can do; what is absent is unknown.
        deadlines: Seconds for each method that needs other than the host's default.
        instant: Methods that only compute: no input or output, no lock, some microseconds. The
            host calls them at once, in its own loop, for those whom it trusts with that: agent-core
            itself and the distribution of the selected backend.
    """

    kind: str
    name: str
    summary: str = ""
    config_schema: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    slots: tuple[SlotInfo, ...] = ()
    exclusive_slots: tuple[str, ...] = ()
    metrics: tuple[MetricInfo, ...] = ()
    capabilities: Mapping[str, Support] = field(default_factory=dict)
    deadlines: Mapping[str, float] = field(default_factory=dict)
    instant: tuple[str, ...] = ()

    def slot(self, name: str) -> SlotInfo | None:
        """Find how a slot is declared: by its full name first, then by the first glob."""
        exact = next((slot for slot in self.slots if slot.name == name), None)
        return exact or next((s for s in self.slots if fnmatchcase(name, s.name)), None)

    def supports(self, capability: str) -> Support:
        """Look a capability up; what was not declared is unknown."""
        return self.capabilities.get(capability, Support.UNKNOWN)


class Plugin(ABC):
    """The lifetime that every synchronous plugin shares.

    The host calls `open` once before anything else and `close` at the end, even after a failed
    `open`; closing twice does nothing. Importing the module of a plugin must be light: no vendor
    library, no file, no thread; all that belongs into `open`.
    """

    info: ClassVar[PluginInfo]

    def open(self, config: Mapping[str, Any]) -> None:
        """Start with the plugin's own configuration section, already valid by its schema.

        Raises:
            PluginDisabled: when there is nothing to do on this node, with the reason.
        """

    def reconfigure(self, config: Mapping[str, Any]) -> Reconfigured:
        """Take a changed configuration, or say that only a restart can."""
        return Reconfigured.NEEDS_RESTART

    def close(self) -> None:
        """Give back everything that `open` took."""
