"""Made-up readings: the same for the same seed, device and cycle.

A kernel uses some of what it holds, and a device no less than its holders together: what is told
of a device is never what is charged to one who holds a part of it.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from accel_mock.bay import Placed
from accel_mock.kind import Kind
from agent_core.contracts.device import Grant, Health, Measurement, Subject
from agent_core.contracts.info import MetricInfo, MetricScope, MetricType

_MAX_WATTS = 250.0
_MAX_CELSIUS = 120.0
_UNREADABLE = (Health.LOST, Health.UNKNOWN)


def declared(prefix: str) -> tuple[MetricInfo, ...]:
    """Declare the series of one kind of accelerator."""
    gauge, device, kernel = MetricType.GAUGE, MetricScope.DEVICE, MetricScope.KERNEL
    return (
        MetricInfo(f"{prefix}_mem", "bytes", gauge, device, "device memory in use"),
        MetricInfo(f"{prefix}_util", "ratio", gauge, device, "part of the time it computes"),
        MetricInfo(f"{prefix}_power", "watts", gauge, device, "power drawn"),
        MetricInfo(f"{prefix}_temperature", "celsius", gauge, device, "temperature of the chip"),
        MetricInfo(f"{prefix}_mem", "bytes", gauge, kernel, "device memory in use"),
        MetricInfo(f"{prefix}_util", "ratio", gauge, kernel, "part of its share that computes"),
    )


class Readings:
    """The readings of one cycle.

    Args:
        there: The devices by id; those that are lost or unknown cannot be read.
        seed: Of what is made up.
        cycle: The number of this measurement.
    """

    def __init__(self, there: Mapping[str, Placed], seed: int, cycle: int) -> None:
        self._there = {i: p for i, p in there.items() if p.health not in _UNREADABLE}
        self._seed = seed
        self._cycle = cycle
        self._now = time.time()
        self._memory: dict[str, int] = defaultdict(int)
        self._util: dict[str, float] = defaultdict(float)

    def of_all(self, subjects: Sequence[Subject]) -> list[Measurement]:
        """Make up what each kernel and each device uses."""
        kernels = [reading for subject in subjects for reading in self._of_kernel(subject)]
        devices = [reading for placed in self._there.values() for reading in self._of(placed)]
        return devices + kernels

    def _of_kernel(self, subject: Subject) -> Iterator[Measurement]:
        by_kind: dict[str, list[tuple[Placed, Grant]]] = {}
        for grant in (grant for claim in subject.claims for grant in claim.grants):
            placed = self._there.get(grant.device_id)
            if placed is not None:
                by_kind.setdefault(placed.kind.prefix, []).append((placed, grant))
        for prefix, held in by_kind.items():
            draw = self._source(f"{subject.kernel_id}/{prefix}")
            used, most, util = 0, 0, draw.uniform(0.0, 1.0)
            for placed, grant in held:
                part = placed.kind.memory(placed.card, grant)
                own = round(draw.uniform(0.2, 1.0) * part)
                self._memory[placed.card.id] += own
                self._util[placed.card.id] += util * part / placed.card.memory
                used, most = used + own, most + part
            yield Measurement(f"{prefix}_mem", used, self._now, subject.kernel_id, None, most)
            yield Measurement(f"{prefix}_util", util, self._now, subject.kernel_id, None, 1.0)

    def _of(self, placed: Placed) -> Iterator[Measurement]:
        card, kind = placed.card, placed.kind
        draw, memory = self._source(card.id), card.memory
        used = max(round(draw.uniform(0.2, 1.0) * memory), self._memory[card.id])
        util = max(draw.uniform(0.0, 1.0), self._util[card.id])
        watts = _bounded(draw.gauss(200.0, 50.0), _MAX_WATTS)
        heat = _bounded(draw.gauss(90.0, 20.0), _MAX_CELSIUS)
        yield self._reading(kind, "mem", min(used, memory), card.id, memory)
        yield self._reading(kind, "util", min(util, 1.0), card.id, 1.0)
        yield self._reading(kind, "power", watts, card.id, _MAX_WATTS)
        yield self._reading(kind, "temperature", heat, card.id, _MAX_CELSIUS)

    def _reading(
        self, kind: Kind, name: str, value: float, device: str, capacity: float
    ) -> Measurement:
        return Measurement(f"{kind.prefix}_{name}", value, self._now, None, device, capacity)

    def _source(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}/{self._cycle}")  # noqa: S311  no secrets


def _bounded(value: float, most: float) -> float:
    return max(0.0, min(most, value))
