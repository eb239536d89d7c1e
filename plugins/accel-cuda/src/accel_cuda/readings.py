"""What is measured: the cards as a whole, and of each kernel only what is really its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from accel_cuda.driver import Driver, NvmlFailed
from accel_cuda.model import Card, Rack
from agent_core.contracts.device import Measurement, Subject
from agent_core.contracts.info import MetricInfo, MetricScope, MetricType

_DEVICE, _KERNEL, _GAUGE = MetricScope.DEVICE, MetricScope.KERNEL, MetricType.GAUGE

SERIES: Final = (
    MetricInfo("cuda_mem", "bytes", _GAUGE, _DEVICE, "device memory in use"),
    MetricInfo("cuda_util", "ratio", _GAUGE, _DEVICE, "part of the time it computes"),
    MetricInfo("cuda_power", "watts", _GAUGE, _DEVICE, "power drawn"),
    MetricInfo("cuda_temperature", "celsius", _GAUGE, _DEVICE, "temperature of the chip"),
    MetricInfo("cuda_mem", "bytes", _GAUGE, _KERNEL, "device memory of its own processes"),
    MetricInfo("cuda_util", "ratio", _GAUGE, _KERNEL, "use of the cards that it has to itself"),
)
_CORE: Final = 0  # the temperature sensor of the chip

_Processes = Mapping[int, int | None]  # pid -> bytes, or None where the driver does not tell
_Sight = Mapping[str, "_Seen"]


class _Seen:
    """What was read of one card or MIG instance; None is what could not be read."""

    __slots__ = ("memory", "processes", "util", "whole")

    def __init__(self, memory: int, *, whole: bool) -> None:
        self.memory = memory
        self.whole = whole
        self.util: float | None = None
        self.processes: _Processes | None = None


def measure(driver: Driver, rack: Rack, subjects: Sequence[Subject]) -> list[Measurement]:
    """Read every card and share its processes out among the kernels by their pids."""
    readings, sight = list[Measurement](), dict[str, _Seen]()
    for card in rack.cards:
        readings.extend(_card(driver, card, sight))
        for partition in card.partitions:
            sight[partition.id] = seen = _Seen(partition.memory, whole=False)
            handle = _read(driver, "nvmlDeviceGetHandleByUUID", partition.id)
            if handle is not None:
                readings.extend(_memory(driver, partition.id, handle))
                seen.processes = _processes(driver, handle)
    for subject in subjects:
        readings.extend(_kernel(subject, sight))
    return readings


def _card(driver: Driver, card: Card, sight: dict[str, _Seen]) -> Iterator[Measurement]:
    sight[card.id] = seen = _Seen(card.memory, whole=not card.mig)
    handle = _read(driver, "nvmlDeviceGetHandleByUUID", card.id)
    if handle is None:
        return
    yield from _memory(driver, card.id, handle)
    rates = _read(driver, "nvmlDeviceGetUtilizationRates", handle)
    if rates is not None:
        seen.util = rates.gpu / 100
        yield Measurement("cuda_util", seen.util, time.time(), device_id=card.id, capacity=1.0)
    power = _read(driver, "nvmlDeviceGetPowerUsage", handle)
    if power is not None:
        limit = _read(driver, "nvmlDeviceGetEnforcedPowerLimit", handle)
        most = limit / 1000 if limit else None
        yield Measurement("cuda_power", power / 1000, time.time(), device_id=card.id, capacity=most)
    heat = _read(driver, "nvmlDeviceGetTemperature", handle, _CORE)
    if heat is not None:
        yield Measurement("cuda_temperature", heat, time.time(), device_id=card.id)
    if not card.mig:
        # In MIG mode the instances list their own; the card would need more rights for all.
        seen.processes = _processes(driver, handle)


def _memory(driver: Driver, device: str, handle: Any) -> Iterator[Measurement]:
    memory = _read(driver, "nvmlDeviceGetMemoryInfo", handle)
    if memory is not None:
        yield Measurement(
            "cuda_mem", memory.used, time.time(), device_id=device, capacity=memory.total
        )


def _processes(driver: Driver, handle: Any) -> _Processes | None:
    for version in ("_v3", "_v2"):  # drivers before 510 have the second only
        found = _read(driver, f"nvmlDeviceGetComputeRunningProcesses{version}", handle)
        if found is not None:
            return {process.pid: process.usedGpuMemory for process in found}
    return None


def _read(driver: Driver, name: str, *arguments: Any) -> Any:
    """Read one thing, with None when it cannot be had: a reading left out hides no other."""
    try:
        return driver.call(name, *arguments)
    except NvmlFailed:
        return None


def _kernel(subject: Subject, sight: _Sight) -> Iterator[Measurement]:
    if not subject.pids:
        return
    held = {grant.device_id for claim in subject.claims for grant in claim.grants}
    used = _used(subject, held, sight)
    if used is not None:
        capacity = sum(sight[device].memory for device in held) or None
        yield _of_kernel(subject, "cuda_mem", used, capacity)
    util = _util(subject, held, sight)
    if util is not None:
        yield _of_kernel(subject, "cuda_util", util, 1.0)


def _of_kernel(subject: Subject, metric: str, value: float, most: float | None) -> Measurement:
    return Measurement(metric, value, time.time(), kernel_id=subject.kernel_id, capacity=most)


def _used(subject: Subject, held: set[str], sight: _Sight) -> int | None:
    """Add up what its processes use on every card, unless a part of that could not be read."""
    if any(device not in sight or sight[device].processes is None for device in held):
        return None
    pids = set(subject.pids)
    lists = [seen.processes for seen in sight.values() if seen.processes]
    mine = [used for of in lists for pid, used in of.items() if pid in pids]
    if None in mine or not (mine or held):
        return None
    return sum(used for used in mine if used is not None)


def _util(subject: Subject, held: set[str], sight: _Sight) -> float | None:
    """Average the use of whole cards on which no process is another's: that is its own."""
    pids, rates = set(subject.pids), list[float]()
    for device in held:
        seen = sight.get(device)
        if seen is None or not seen.whole or seen.util is None or seen.processes is None:
            return None
        if not pids.issuperset(seen.processes):
            return None
        rates.append(seen.util)
    return sum(rates) / len(rates) if rates else None
