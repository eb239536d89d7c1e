"""The mem plugin: the node's memory in bytes, and how much of it kernels use.

All memory is one device, ``root``. Configuration, all optional: `reserved`, bytes that are kept
from kernels, as a number or a size such as ``"1g"``; `overcommit`, how much of the rest is
promised, a decimal of at least 1; `size`, the bytes there are instead of the host's; `simulated`,
whether that memory is not this host's, so that nothing of it is said of it; `root`, where ``proc``
is found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import (
    ComputeDevice,
    Counter,
    Device,
    Grant,
    Measurement,
    Offer,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import InvalidConfig, PluginDisabled
from agent_core.contracts.info import (
    MetricInfo,
    MetricScope,
    MetricType,
    NumberFormat,
    PluginInfo,
    SlotInfo,
    SlotType,
)
from agent_core.hookspecs import hookimpl
from agent_core.intrinsic import cgroups, processes
from agent_core.intrinsic.factors import overcommit, whole

_ROOT = "root"
_COUNTER = "mem.root"


class MemDevice(ComputeDevice):
    """The memory of this node."""

    info = PluginInfo(
        kind="device",
        name="mem",
        summary="Memory of this node, in bytes",
        config_schema={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "reserved": {"type": ["integer", "string"], "minimum": 0},
                "overcommit": {"type": ["string", "number"], "minimum": 1},
                "size": {"type": ["integer", "string"], "minimum": 1},
                "simulated": {"type": "boolean"},
                "root": {"type": "string"},
            },
        },
        slots=(
            SlotInfo(
                "mem",
                SlotType.BYTES,
                description="Main memory",
                human_readable_name="RAM",
                display_unit="GiB",
                display_icon="ram",
                number_format=NumberFormat(binary=True),
            ),
        ),
        instant=("describe",),
        metrics=(
            MetricInfo("mem", "bytes", MetricType.GAUGE, MetricScope.KERNEL, "memory in use"),
            MetricInfo("mem", "bytes", MetricType.GAUGE, MetricScope.NODE, "memory in use"),
        ),
    )

    def __init__(self) -> None:
        self._proc = Path("/proc")
        self._reserved = 0
        self._overcommit = Amount(1)
        self._given: int | None = None
        self._simulated = False

    def open(self, config: Mapping[str, Any]) -> None:
        """Take the configuration.

        Raises:
            PluginDisabled: when the host does not tell how much memory it has.
            InvalidConfig: when nothing is left after what is reserved, or the overcommit is no
                decimal of at least 1.
        """
        self._proc = Path(config.get("root", "/")) / "proc"
        self._reserved = _size("reserved", config.get("reserved", 0))
        self._given = _size("size", config["size"]) if "size" in config else None
        self._simulated = bool(config.get("simulated"))
        self._overcommit = overcommit("mem", config.get("overcommit", 1))
        if not self._total():
            raise PluginDisabled(f"{self._proc / 'meminfo'} does not say how much memory there is")
        if self._total() <= self._reserved:
            raise InvalidConfig(
                f"mem: {self._reserved} bytes are reserved of {self._total()}, "
                "so no kernel can have any",
                hint="Lower [resource] reserved-mem.",
            )

    def _total(self) -> int:
        if self._given is not None:
            return self._given
        return processes.node_memory(self._proc).get("MemTotal", 0)

    def devices(self) -> Sequence[Device]:
        """List the one device, with what is not reserved of it.

        With an overcommit more is promised than is there; no kernel gets more than is there.
        """
        total = self._total()
        there = total - self._reserved
        promised = whole(self._overcommit, there)
        most = there if promised > there else None
        return [
            Device(
                id=_ROOT,
                model="Main memory",
                counters=(Counter(_COUNTER, promised, "bytes"),),
                offers=(Offer("mem", Amount(1), {_COUNTER: 1}, most),),
                attributes={"total": str(total), "reserved": str(self._reserved)},
            )
        ]

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        """Limit the container to what it was given."""
        granted = _granted(grants)
        return ContainerEdits(limits={"memory": granted}) if granted else ContainerEdits()

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        """Read the memory of the node and of each kernel: by its cgroup, else by its pids."""
        if self._simulated:
            return []
        readings: list[Measurement] = []
        node = processes.node_memory(self._proc)
        if "MemTotal" in node and "MemAvailable" in node:
            used, total = node["MemTotal"] - node["MemAvailable"], node["MemTotal"]
            readings.append(Measurement("mem", used, time.time(), capacity=total))
        for subject in subjects:
            used_by = cgroups.memory_bytes(subject.cgroups)
            if used_by is None:
                used_by = processes.memory_bytes(self._proc, subject.pids)
            if used_by is not None:
                readings.append(_of_kernel(subject, used_by))
        return readings


def _of_kernel(subject: Subject, used: int) -> Measurement:
    limit = _granted([g for claim in subject.claims for g in claim.grants])
    return Measurement(
        "mem", used, time.time(), kernel_id=subject.kernel_id, capacity=limit or None
    )


def _granted(grants: Sequence[Grant]) -> int:
    return sum(grant.amount.value for grant in grants if grant.slot == "mem")


def _size(key: str, value: int | str) -> int:
    try:
        return Amount.parse_size(str(value)).value
    except ValueError as exc:
        raise InvalidConfig(f"mem: {key}: {exc}") from exc


@hookimpl
def register_device() -> type[ComputeDevice]:
    """Register the mem plugin."""
    return MemDevice
