"""cuda measures each card, and charges a kernel with nothing but its own."""

import pytest
from accel_cuda.plugin import CudaDevice

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Grant, Subject

pytestmark = pytest.mark.requires("gcc")
GIB = 1 << 30


@pytest.fixture
def measured(nvml):
    """Measure by a plugin that is opened after everything is arranged."""
    plugins = []

    def measure(*subjects):
        plugin = CudaDevice()
        plugins.append(plugin)
        plugin.open({"root": str(nvml.root)})
        return plugin.measure(subjects)

    yield measure
    for plugin in plugins:
        plugin.close()


def holder(kernel, *devices, pids):
    grants = tuple(Grant("cuda.device", device, Amount(1)) for device in devices)
    return Subject(kernel, (Claim(f"{kernel}.1.cuda", kernel, 1, "cuda", grants),), pids)


def of(readings, metric, **where):
    found = [r for r in readings if r.metric == metric]
    for field, value in where.items():
        found = [r for r in found if getattr(r, field) == value]
    return [(r.value, r.capacity) for r in found]


def test_every_card_is_measured_in_base_units(measured):
    readings = measured()

    assert of(readings, "cuda_mem", device_id="GPU-a") == [(GIB, 40 * GIB)]
    assert of(readings, "cuda_util", device_id="GPU-a") == [(0.25, 1.0)]
    assert of(readings, "cuda_power", device_id="GPU-a") == [(75.5, 400.0)]
    assert of(readings, "cuda_temperature", device_id="GPU-a") == [(41, None)]
    assert len(readings) == 8


def test_what_cannot_be_read_is_left_out_and_hides_nothing(measured, nvml):
    nvml.show(nvml.gpu("GPU-a", 1, util=-1, power=-1), nvml.gpu("GPU-b", 2, error=15))

    assert {(r.metric, r.device_id) for r in measured()} == {
        ("cuda_mem", "GPU-a"), ("cuda_temperature", "GPU-a"),
    }  # fmt: skip


def test_a_kernel_is_charged_with_the_memory_of_its_own_processes_only(measured, nvml):
    nvml.show(
        nvml.gpu("GPU-a", 1, used=9 * GIB),
        nvml.gpu("GPU-b", 2, used=9 * GIB),
        nvml.process("GPU-a", 10, GIB),
        nvml.process("GPU-a", 11, 2 * GIB),
        nvml.process("GPU-b", 10, 4 * GIB),
        nvml.process("GPU-b", 99, 2 * GIB),
    )

    readings = measured(
        holder("k1", "GPU-a", "GPU-b", pids=(10, 11)), holder("k2", "GPU-b", pids=(12,))
    )

    assert of(readings, "cuda_mem", kernel_id="k1") == [(7 * GIB, 80 * GIB)]
    assert of(readings, "cuda_mem", kernel_id="k2") == [(0, 40 * GIB)]


def test_a_cards_use_is_charged_to_who_has_it_to_himself(measured, nvml):
    nvml.show(
        nvml.gpu("GPU-a", 1, util=80),
        nvml.gpu("GPU-b", 2, util=40),
        nvml.process("GPU-a", 10, GIB),
        nvml.process("GPU-b", 99, GIB),
    )

    readings = measured(holder("k1", "GPU-a", pids=(10,)), holder("k2", "GPU-b", pids=(20,)))

    assert of(readings, "cuda_util", kernel_id="k1") == [(0.8, 1.0)]
    assert of(readings, "cuda_util", kernel_id="k2") == []


def test_a_partitions_holder_is_never_charged_with_the_card(measured, nvml):
    nvml.show(
        nvml.gpu("GPU-b", 2, mig=1, used=30 * GIB, util=90),
        nvml.mig("GPU-b", "MIG-1", 1, 20, used=3 * GIB),
        nvml.mig("GPU-b", "MIG-2", 2, 20, used=5 * GIB),
        nvml.process("MIG-1", 10, GIB),
        nvml.process("MIG-2", 20, 5 * GIB),
    )

    readings = measured(holder("k1", "MIG-1", pids=(10,)))

    size = (20 * 1024 - 256) << 20
    assert of(readings, "cuda_mem", kernel_id="k1") == [(GIB, size)]
    assert of(readings, "cuda_util", kernel_id="k1") == []
    assert of(readings, "cuda_mem", device_id="MIG-1") == [(3 * GIB, size)]
    assert of(readings, "cuda_power", device_id="MIG-1") == []


def test_a_process_of_unknown_size_is_missing_and_not_zero(measured, nvml):
    nvml.show(nvml.gpu("GPU-a", 1), nvml.process("GPU-a", 10, None))

    assert of(measured(holder("k1", "GPU-a", pids=(10,))), "cuda_mem", kernel_id="k1") == []


def test_a_kernel_without_processes_or_with_a_lost_card_is_left_out(measured, nvml):
    nvml.show(
        nvml.gpu("GPU-a", 1),
        nvml.gpu("GPU-b", 2, error=15, error_in="nvmlDeviceGetComputeRunningProcesses_v3"),
    )

    readings = measured(holder("k1", "GPU-a", pids=()), holder("k2", "GPU-b", pids=(20,)))

    assert [r for r in readings if r.kernel_id] == []


def test_a_kernel_without_a_claim_is_charged_with_what_it_uses(measured, nvml):
    nvml.show(nvml.gpu("GPU-a", 1), nvml.process("GPU-a", 10, GIB))

    readings = measured(Subject("k1", pids=(10,)), Subject("k2", pids=(20,)))

    assert [(r.kernel_id, r.value, r.capacity) for r in readings if r.kernel_id] == [
        ("k1", GIB, None)
    ]
