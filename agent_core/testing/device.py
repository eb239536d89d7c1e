"""The conformance suite of device plugins."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import (
    Claim,
    ComputeDevice,
    Device,
    Grant,
    Measurement,
    PrepareContext,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.info import MetricScope, MetricType
from agent_core.contracts.inventory import check_inventory
from agent_core.testing.lifetime import PluginContract, opened


class ComputeDeviceContract(PluginContract):
    """What every device plugin does, whatever its vendor.

    class TestAcme(ComputeDeviceContract):
        @pytest.fixture
        def plugin(self):
            return AcmeDevice
    """

    kind = "device"

    @pytest.fixture
    def device(
        self, plugin: type[ComputeDevice], config: Mapping[str, Any]
    ) -> Iterator[ComputeDevice]:
        """The plugin, opened."""
        instance: ComputeDevice = opened(plugin, config)
        yield instance
        instance.close()

    @pytest.fixture
    def claims(self, device: ComputeDevice) -> list[Claim]:
        """For each slot one claim on each of its first devices, of one quantum and of all."""
        name = device.info.name
        return [
            Claim(f"contract-{number}.1.{name}", f"contract-{number}", 1, name, (grant,))
            for number, grant in enumerate(sample_grants(device.devices()))
        ]

    def test_the_inventory_is_sound(self, device: ComputeDevice) -> None:
        """Ids are unique, offers draw on counters that exist, slots are declared."""
        devices = check_inventory(device.info.name, device.info, device.devices())
        for found in devices:
            self.check_plain(Device, found)

    def test_ids_are_the_same_every_time(
        self, device: ComputeDevice, plugin: type[ComputeDevice], config: Mapping[str, Any]
    ) -> None:
        """Ids do not depend on the call, nor on the process that opened the plugin."""
        ids = sorted(d.id for d in device.devices())
        assert sorted(d.id for d in device.devices()) == ids
        again: ComputeDevice = opened(plugin, config)
        try:
            assert sorted(d.id for d in again.devices()) == ids
        finally:
            again.close()

    def test_describe_is_pure(self, device: ComputeDevice, claims: list[Claim]) -> None:
        """The same grants always get the same edits, and nothing else changes."""
        before = {d.id: d.offers for d in device.devices()}
        for claim in claims:
            edits = device.describe(claim.grants)
            assert isinstance(edits, ContainerEdits)
            assert device.describe(claim.grants) == edits
            self.check_plain(ContainerEdits, edits)
            MergedEdits.of(device.info.name, edits).resolve()
        assert list(device.prepared()) == []
        assert {d.id: d.offers for d in device.devices()} == before

    def test_describing_nothing_needs_nothing(self, device: ComputeDevice) -> None:
        """No grants, no edits."""
        assert device.describe(()) == ContainerEdits()

    def test_prepare_and_release_are_idempotent(
        self, device: ComputeDevice, claims: list[Claim], tmp_path: Path
    ) -> None:
        """Preparing twice gives the same edits; releasing twice succeeds and leaves nothing."""
        context = PrepareContext(str(tmp_path))
        for claim in claims:
            edits = device.prepare(claim, context)
            assert device.prepare(claim, context) == edits
            assert set(device.prepared()) <= {claim.id}
            device.release(claim)
            device.release(claim)
            assert list(device.prepared()) == []

    def test_a_claim_is_released_by_its_id_alone(
        self, device: ComputeDevice, claims: list[Claim], tmp_path: Path
    ) -> None:
        """Whoever finds a leak knows the claim's id, and nothing of what was granted."""
        for claim in claims:
            device.prepare(claim, PrepareContext(str(tmp_path)))
            device.release(replace(claim, grants=()))
            assert claim.id not in device.prepared()

    def test_releasing_what_was_never_prepared_succeeds(self, device: ComputeDevice) -> None:
        """Giving back succeeds when nothing is left, even a device that nobody knows."""
        slot = device.info.slots[0].name if device.info.slots else "none"
        gone = Grant(slot, "no-such-device", Amount(1))
        device.release(Claim("unknown.1.x", "unknown", 1, device.info.name, (gone,)))
        device.release(Claim("unknown.2.x", "unknown", 2, device.info.name, ()))

    def test_it_measures_what_it_declares(self, device: ComputeDevice, claims: list[Claim]) -> None:
        """Every reading is of a declared series, finite, timed, and of what was asked."""
        subjects = [Subject(c.kernel_id, (c,), pids=(os.getpid(),)) for c in claims[:4]]
        began = time.time()
        readings = device.measure(subjects)
        self.check_readings(device, readings, subjects)
        assert all(began - 60 <= r.at <= time.time() + 1 for r in readings)

    def test_it_measures_without_any_kernel(self, device: ComputeDevice) -> None:
        """The node and its devices are measured when nothing runs."""
        self.check_readings(device, device.measure(()), ())

    def test_counters_never_go_back(self, device: ComputeDevice, claims: list[Claim]) -> None:
        """A later reading of a counter is never lower."""
        counters = {m.name for m in device.info.metrics if m.type is MetricType.COUNTER}
        subjects = [Subject(c.kernel_id, (c,), pids=(os.getpid(),)) for c in claims[:4]]
        first, second = (
            {(r.metric, r.kernel_id, r.device_id): r.value for r in device.measure(subjects)}
            for _ in range(2)
        )
        back = [
            key for key in first if key[0] in counters and second.get(key, math.inf) < first[key]
        ]
        assert not back

    def test_a_kernel_that_has_ended_is_no_error(self, device: ComputeDevice) -> None:
        """Processes and groups that are gone are left out, and others are still measured."""
        gone = Subject("gone", pids=(2**22 + 1,), cgroups={"memory": "/no/such", "cpu": "/no/such"})
        assert [r for r in device.measure([gone]) if r.kernel_id == "gone"] == []

    def check_readings(
        self,
        device: ComputeDevice,
        readings: Sequence[Measurement],
        subjects: Sequence[Subject],
    ) -> None:
        """Assert that readings are of declared series and of known devices and kernels."""
        declared = {(m.name, m.scope) for m in device.info.metrics}
        devices = {d.id for d in device.devices()}
        kernels = {s.kernel_id for s in subjects}
        for reading in readings:
            assert (reading.metric, _scope(reading)) in declared, f"{reading} is not declared"
            assert math.isfinite(reading.value)
            assert reading.device_id is None or reading.device_id in devices
            assert reading.kernel_id is None or reading.kernel_id in kernels
            self.check_plain(Measurement, reading)


def sample_grants(devices: Sequence[Device], per_slot: int = 2) -> list[Grant]:
    """Make grants to try a plugin with: of each slot one quantum, and the whole of a device."""
    grants: list[Grant] = []
    seen: dict[str, int] = {}
    capacity = {c.id: c.capacity for d in devices for c in d.counters}
    for device in devices:
        for offer in device.offers:
            seen[offer.slot] = seen.get(offer.slot, 0) + 1
            if seen[offer.slot] <= per_slot:
                most = min(capacity[c] // n for c, n in offer.draws.items())
                amounts = [offer.quantum.times(times) for times in sorted({1, most})]
                grants.extend(Grant(offer.slot, device.id, amount) for amount in amounts)
    return grants


def _scope(reading: Measurement) -> MetricScope:
    if reading.kernel_id is not None:
        return MetricScope.KERNEL
    return MetricScope.NODE if reading.device_id is None else MetricScope.DEVICE
