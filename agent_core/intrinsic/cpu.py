"""The cpu plugin: whole cores, fractions of a pool of cores, and the CPU time that kernels use.

Each core that this process may run on is a device, ``cpu0`` and so on: a core has no identity but
its number. The shared cores are one more device, ``cpu-pool``, which gives thousandths of a core: a
request with a fraction is served by it alone, a whole one never. Configuration, all optional:
`reserved`, how many cores are kept from kernels, the lowest-numbered first; `shared`, how many of
the next ones are the pool; `overcommit`, how many kernels may share a core on average, a decimal of
at least 1; `cores`, the cores to offer instead of those that this process may run on; `simulated`,
whether they are not this host's, so that nothing of it is said of them; `root`, where ``sys`` and
``proc`` are found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from agent_core.contracts.edits import ContainerEdits, Cpuset
from agent_core.contracts.errors import InvalidConfig
from agent_core.contracts.info import (
    MetricInfo,
    MetricScope,
    MetricType,
    PluginInfo,
    SlotInfo,
    SlotType,
)
from agent_core.hookspecs import hookimpl
from agent_core.intrinsic import cgroups, processes
from agent_core.intrinsic.factors import overcommit, whole
from agent_core.intrinsic.topology import node_of_cores

_MILLI = 1000
_POOL = "cpu-pool"


class CpuDevice(ComputeDevice):
    """The cores of this node."""

    info = PluginInfo(
        kind="device",
        name="cpu",
        summary="CPU cores of this node, whole and in a shared pool",
        config_schema={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "reserved": {"type": "integer", "minimum": 0},
                "shared": {"type": "integer", "minimum": 0},
                "overcommit": {"type": ["string", "number"], "minimum": 1},
                "cores": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "simulated": {"type": "boolean"},
                "root": {"type": "string"},
            },
        },
        slots=(
            SlotInfo(
                "cpu",
                SlotType.COUNT,
                description="CPU cores",
                human_readable_name="CPU",
                display_unit="Core",
                display_icon="cpu",
            ),
        ),
        instant=("describe",),
        metrics=(
            MetricInfo(
                "cpu_used", "seconds", MetricType.COUNTER, MetricScope.KERNEL, "CPU time used"
            ),
            MetricInfo(
                "cpu_used",
                "seconds",
                MetricType.COUNTER,
                MetricScope.NODE,
                "busy time of all cores",
            ),
        ),
    )

    def __init__(self) -> None:
        self._root = Path("/")
        self._reserved = 0
        self._pooled = 0
        self._overcommit = Amount(1)
        self._cores: tuple[int, ...] | None = None
        self._simulated = False
        self._nodes: Mapping[int, int] = {}
        self._pool_cpuset = Cpuset(())

    def open(self, config: Mapping[str, Any]) -> None:
        """Take the configuration and learn the NUMA nodes.

        Raises:
            InvalidConfig: when no core is left after the reserved and the shared ones, or the
                overcommit is no decimal of at least 1.
        """
        self._root = Path(config.get("root", "/"))
        self._reserved = int(config.get("reserved", 0))
        self._pooled = int(config.get("shared", 0))
        self._overcommit = overcommit("cpu", config.get("overcommit", 1))
        cores = config.get("cores")
        self._cores = None if cores is None else tuple(sorted(set(cores)))
        self._simulated = bool(config.get("simulated"))
        self._nodes = {} if self._simulated else node_of_cores(self._root)
        if len(self._all()) <= self._reserved:
            raise InvalidConfig(
                f"cpu: {self._reserved} cores are reserved and no more are there, "
                "so no kernel can have any",
                hint="Lower [resource] reserved-cpu.",
            )
        if len(self._all()) <= self._reserved + self._pooled:
            raise InvalidConfig(
                f"cpu: {self._reserved} cores are reserved and {self._pooled} are shared, "
                "so no kernel can have a whole one",
                hint="Lower [resource] shared-cpu.",
            )
        self._pool_cpuset = self._bound(self._pool_cores())

    def devices(self) -> Sequence[Device]:
        """List the cores: the reserved ones offer nothing, the shared ones through their pool.

        With an overcommit of 1.5 every second core may have two kernels; none has it twice.
        """
        cores = self._all()
        kept, given = cores[: self._reserved], cores[self._reserved + self._pooled :]
        return [
            *(self._core(core, attributes={"reserved": "true"}) for core in kept),
            *self._pool(self._pool_cores()),
            *(self._shared(core, self._holders(n)) for n, core in enumerate(given)),
        ]

    def _all(self) -> Sequence[int]:
        return sorted(os.sched_getaffinity(0)) if self._cores is None else self._cores

    def _pool_cores(self) -> Sequence[int]:
        return self._all()[self._reserved : self._reserved + self._pooled]

    def _pool(self, cores: Sequence[int]) -> Iterator[Device]:
        if not cores:
            return
        parts = _MILLI * len(cores)
        promised = whole(self._overcommit, parts)
        yield Device(
            _POOL,
            "Shared CPU cores",
            counters=(Counter(_POOL, promised, "millicore"),),
            offers=(Offer("cpu", Amount(1, 3), {_POOL: 1}, None if promised == parts else parts),),
            numa_node=self._nodes.get(cores[0]) if len(self._near(cores)) == 1 else None,
        )
        yield from (self._core(core, parent=_POOL) for core in cores)

    def _near(self, cores: Iterable[int]) -> set[int | None]:
        return {self._nodes.get(core) for core in cores}

    def _holders(self, index: int) -> int:
        """Say how many kernels may have the core of this index, so that the sum is exact."""
        return whole(self._overcommit, index + 1) - whole(self._overcommit, index)

    def _shared(self, core: int, holders: int) -> Device:
        name = f"cpu{core}"
        most = None if holders == 1 else 1
        return self._core(
            core,
            counters=(Counter(name, holders, "core"),),
            offers=(Offer("cpu", Amount(1), {name: 1}, most),),
        )

    def _core(self, core: int, **fields: Any) -> Device:
        return Device(f"cpu{core}", "CPU core", numa_node=self._nodes.get(core), **fields)

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        """Bind the container to its cores and to the memory that is near all of them.

        A part of the pool may run on all of its cores, for so much time as the part is.
        """
        if not grants:
            return ContainerEdits()
        millicores = sum(grant.amount.quanta(Amount(1, 3)) or 0 for grant in grants)
        return ContainerEdits(cpuset=self._cpuset(grants), limits={"cpus": millicores})

    def _cpuset(self, grants: Sequence[Grant]) -> Cpuset:
        ids = {grant.device_id for grant in grants}
        if ids == {_POOL}:
            return self._pool_cpuset
        cores = {int(each.removeprefix("cpu")) for each in ids - {_POOL}}
        if _POOL in ids:
            cores.update(self._pool_cores())
        return self._bound(cores)

    def _bound(self, cores: Iterable[int]) -> Cpuset:
        cpus = tuple(sorted(cores))
        nodes = self._near(cpus)
        mems = tuple(sorted(node for node in nodes if node is not None))
        return Cpuset(cpus, () if None in nodes else mems)

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        """Read the CPU time of the node and of each kernel: by its cgroup, else by its pids."""
        if self._simulated:
            return []
        proc = self._root / "proc"
        readings: list[Measurement] = []
        busy = processes.node_cpu_seconds(proc)
        if busy is not None:
            readings.append(Measurement("cpu_used", busy, time.time()))
        for subject in subjects:
            used = cgroups.cpu_seconds(subject.cgroups)
            if used is None:
                used = processes.cpu_seconds(proc, subject.pids)
            if used is not None:
                now = time.time()
                readings.append(Measurement("cpu_used", used, now, kernel_id=subject.kernel_id))
        return readings


@hookimpl
def register_device() -> type[ComputeDevice]:
    """Register the cpu plugin."""
    return CpuDevice
