"""Made-up readings: the same for the same seed, device and cycle."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from agent_core.contracts.device import Measurement
from agent_core.contracts.info import MetricInfo, MetricScope, MetricType

_MAX_WATTS = 250.0
_MAX_CELSIUS = 120.0


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


def of_device(
    prefix: str, device: str, memory: int, seed: int, cycle: int
) -> Iterator[Measurement]:
    """Make up the readings of a device."""
    draw, now = _source(device, seed, cycle), time.time()
    for name, value, capacity in (
        ("mem", round(draw.uniform(0.2, 1.0) * memory), memory),
        ("util", draw.uniform(0.0, 1.0), 1.0),
        ("power", _bounded(draw.gauss(200.0, 50.0), _MAX_WATTS), _MAX_WATTS),
        ("temperature", _bounded(draw.gauss(90.0, 20.0), _MAX_CELSIUS), _MAX_CELSIUS),
    ):
        yield Measurement(f"{prefix}_{name}", value, now, device_id=device, capacity=capacity)


def of_kernel(
    prefix: str, kernel: str, memory: int, seed: int, cycle: int
) -> Iterator[Measurement]:
    """Make up the readings of a kernel within the memory that it was granted."""
    draw, now = _source(kernel, seed, cycle), time.time()
    used = round(draw.uniform(0.2, 1.0) * memory)
    yield Measurement(f"{prefix}_mem", used, now, kernel_id=kernel, capacity=memory)
    yield Measurement(f"{prefix}_util", draw.uniform(0.0, 1.0), now, kernel_id=kernel, capacity=1.0)


def _source(name: str, seed: int, cycle: int) -> random.Random:
    return random.Random(f"{seed}/{name}/{cycle}")  # noqa: S311  made-up readings, not secrets


def _bounded(value: float, most: float) -> float:
    return max(0.0, min(most, value))
