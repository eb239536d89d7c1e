"""Reading the devices of a file."""

from __future__ import annotations

import re
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
        mother, model = table.text("mother_uuid", *UUID), table.text("model_name", *_MODEL)
        profile = self._profile(table, model)
        nodes = _numa_nodes(table)
        processors, memory, health, evidence = _facts(table)
        for number in range(count):
            identity, parent = self._named(mother, number, part=bool(profile))
            if identity in self.read:
                table.fault("mother_uuid", f"{mother!r} is there before")
                return
            node = nodes[number % len(nodes)] if nodes else None
            self._tables[identity] = table
            self.read[identity] = Card(
                identity, len(self.read), parent, model, node, processors, memory, profile,
                health, evidence,
            )  # fmt: skip

    def _named(self, mother: str, number: int, *, part: bool) -> tuple[str, str]:
        if not part:
            identity = nth_uuid(mother, number)
            return identity, identity
        self._numbers[mother] = place = self._numbers.get(mother, -1) + 1
        return f"MIG-{mother}/{place}/0", mother

    def _profile(self, table: Table, model: str) -> str:
        if not table.flag("is_mig_device", "is_mig_devices"):
            return ""
        if not self._partitions:
            table.fault("", 'is a MIG partition, which only device_plugin_name = "CUDADevice" has')
        found = re.fullmatch(_PROFILE, model)
        if found is None and model:
            table.fault("model_name", f"of a MIG partition is MIG-<size>, not {model!r}")
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
    if not number:
        return mother
    # It takes as long to import as much of this package, and few files need it.
    from uuid import NAMESPACE_OID, uuid5

    return str(uuid5(NAMESPACE_OID, f"{mother}/{number}"))


def _facts(table: Table) -> tuple[int, int, Health, str]:
    """Read sub-processors, memory, condition and evidence."""
    return (
        table.whole("subproc_count", least=1, most=1 << 20),
        table.size("memory_size"),
        Health(table.choice("health", tuple(Health), Health.HEALTHY)),
        table.text("evidence", *LINE, default=""),
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
