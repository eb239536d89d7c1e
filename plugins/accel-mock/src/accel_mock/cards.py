"""Reading the devices of a file."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import Final

from accel_mock.model import Card
from accel_mock.table import Table
from agent_core.contracts.device import Health
from agent_core.contracts.inventory import MAX_DEVICES

LINE: Final = (r"[^\x00-\x1f]{0,256}", "a line of at most 256 characters")
UUID: Final = (r"[A-Za-z0-9][A-Za-z0-9-]{0,127}", "letters, digits and dashes")

_KEYS: Final = (
    "mother_uuid", "model_name", "numa_node", "subproc_count", "memory_size", "is_mig_device",
    "is_mig_devices", "count", "health", "evidence",
)  # fmt: skip
_MODEL: Final = (r"[^\x00-\x1f]{1,256}", "a line of at most 256 characters")
_PROFILE: Final = r"MIG-([A-Za-z0-9][A-Za-z0-9.]*)"


class Cards:
    """Reads the devices of one file, one table after the other.

    Args:
        partitions: Whether this kind of accelerator has MIG partitions.
    """

    def __init__(self, *, partitions: bool) -> None:
        self._partitions = partitions
        self._numbers: dict[str, int] = {}
        self._tables: dict[str, Table] = {}
        self.read: dict[str, Card] = {}
        """What was read, by id."""

    def add(self, table: Table) -> None:
        """Read one table; with ``count`` it stands for several devices that are alike."""
        table.only(_KEYS)
        count = table.whole("count", least=1, most=MAX_DEVICES, default=1)
        if len(self.read) + count > MAX_DEVICES:
            table.fault("", f"is beyond the {MAX_DEVICES} devices that a node can have")
            return
        card, nodes = _card(table), _numa_nodes(table)
        profile = self._profile(table, card)
        for number in range(count):
            node = nodes[number % len(nodes)] if nodes else None
            alike = replace(card, index=len(self.read), numa_node=node, profile=profile)
            if not self._take(table, self._named(alike, number)):
                return

    def _named(self, card: Card, number: int) -> Card:
        if not card.profile:
            identity = nth_uuid(card.mother, number)
            return replace(card, id=identity, mother=identity)
        part = self._numbers.get(card.mother, 0)
        self._numbers[card.mother] = part + 1
        return replace(card, id=f"MIG-{card.mother}/{part}/0")

    def _take(self, table: Table, card: Card) -> bool:
        if card.id in self.read:
            table.fault("mother_uuid", f"{card.mother!r} is there before")
            return False
        self.read[card.id], self._tables[card.id] = card, table
        return True

    def _profile(self, table: Table, card: Card) -> str:
        if not table.flag("is_mig_device", "is_mig_devices"):
            return ""
        if not self._partitions:
            table.fault("", 'is a MIG partition, which only device_plugin_name = "CUDADevice" has')
        found = re.fullmatch(_PROFILE, card.model)
        if found is None and card.model:
            table.fault("model_name", f"of a MIG partition is MIG-<size>, not {card.model!r}")
        return found.group(1) if found else "none"

    def check(self) -> None:
        """Note the partitions that are larger than what they are a part of."""
        for card in self.read.values():
            mother = self.read.get(card.mother) if card.profile else None
            if mother and card.memory > mother.memory > 0:
                what = f"is more than the {mother.memory} bytes of its mother"
                self._tables[card.id].fault("memory_size", what)


def nth_uuid(mother: str, number: int) -> str:
    """Derive the id of the n-th of many devices that are alike; the first is the mother's own.

    It is the UUID of version 5 of ``<mother>/<number>`` in the name space of object ids, and so
    the same on every machine.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{mother}/{number}")) if number else mother


def _card(table: Table) -> Card:
    mother = table.text("mother_uuid", *UUID)
    return Card(
        id=mother,
        index=0,
        mother=mother,
        model=table.text("model_name", *_MODEL),
        numa_node=None,
        processors=table.whole("subproc_count", least=1, most=1 << 20),
        memory=table.size("memory_size"),
        health=Health(table.choice("health", tuple(Health), Health.HEALTHY)),
        evidence=table.text("evidence", *LINE, default=""),
    )


def _numa_nodes(table: Table) -> list[int]:
    """Read one node, or a list of them that the devices of a count take in turns."""
    given = table.content.get("numa_node")
    if given is None:
        return []
    nodes = given if isinstance(given, list) else [given]
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 1 << 16 for n in nodes):
        table.fault("numa_node", f"is {given!r}, not a whole number from 0 on, or a list of them")
        return []
    return nodes
