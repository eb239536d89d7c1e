"""cpu and mem on fixture hosts, and on this one with real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Counter, Grant, Subject
from agent_core.contracts.edits import ContainerEdits, Cpuset
from agent_core.contracts.errors import (
    InsufficientResource,
    InvalidAmount,
    InvalidConfig,
    PluginDisabled,
)
from agent_core.contracts.inventory import check_inventory
from agent_core.intrinsic.cpu import CpuDevice
from agent_core.intrinsic.mem import MemDevice
from agent_core.intrinsic.topology import node_of_cores, parse_list
from agent_core.resources.allocator import Allocator

MEMINFO = "MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:    6000 kB\nHugePages_Total: 0\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with eight cores on two nodes."""
    return write(
        tmp_path,
        {
            "sys/devices/system/node/node0/cpulist": "0-3\n",
            "sys/devices/system/node/node1/cpulist": "4-7\n",
            "sys/devices/system/node/possible": "0-1\n",
            "proc/meminfo": MEMINFO,
            "proc/stat": "cpu  100 20 30 5000 600 7 8 9 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
        },
    )


def cpu(host: Path, **config: object) -> CpuDevice:
    plugin = CpuDevice()
    plugin.open({"root": str(host), "cores": list(range(8)), **config})
    return plugin


def mem(host: Path, **config: object) -> MemDevice:
    plugin = MemDevice()
    plugin.open({"root": str(host), **config})
    return plugin


def grants(slot: str, **amounts: int) -> list[Grant]:
    return [Grant(slot, device, Amount(n)) for device, n in amounts.items()]


def test_each_core_is_a_device_on_its_numa_node(host: Path) -> None:
    devices = cpu(host).devices()

    assert [(d.id, d.numa_node) for d in devices] == [(f"cpu{n}", n // 4) for n in range(8)]
    assert [str(o.quantum) for o in devices[0].offers] == ["1"]


def test_a_host_that_does_not_tell_its_nodes_has_cores_on_none(tmp_path: Path) -> None:
    write(tmp_path, {"sys/devices/system/node/node0/cpulist": "garbage"})

    assert {d.numa_node for d in cpu(tmp_path).devices()} == {None}
    assert node_of_cores(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("text", "cores"), [("0-2,8\n", [0, 1, 2, 8]), ("", []), ("\n", []), ("5", [5])]
)
def test_the_kernels_lists_are_read(text: str, cores: list[int]) -> None:
    assert parse_list(text) == cores


def test_reserved_cores_are_the_lowest_and_not_offered(host: Path) -> None:
    devices = cpu(host, reserved=6).devices()

    assert [d.id for d in devices] == [f"cpu{n}" for n in range(8)]
    assert [d.id for d in devices if d.offers] == ["cpu6", "cpu7"]
    assert [d.id for d in devices if d.attributes.get("reserved")] == [f"cpu{n}" for n in range(6)]
    with pytest.raises(InvalidConfig, match="8 cores are reserved"):
        cpu(host, reserved=8)


def test_the_cores_of_this_process_are_those_it_may_run_on() -> None:
    plugin = CpuDevice()
    plugin.open({})

    assert [d.id for d in plugin.devices()] == [f"cpu{n}" for n in sorted(os.sched_getaffinity(0))]


def test_a_container_is_bound_to_its_cores_and_their_memory(host: Path) -> None:
    plugin = cpu(host)

    assert plugin.describe(grants("cpu", cpu5=1, cpu4=1)) == ContainerEdits(
        cpuset=Cpuset((4, 5), (1,)), limits={"cpus": 2000}
    )
    assert plugin.describe(grants("cpu", cpu0=1, cpu7=1)).cpuset == Cpuset((0, 7), (0, 1))


def test_memory_nodes_stay_open_where_one_core_has_no_known_node(host: Path) -> None:
    plugin = cpu(host, cores=[3, 9])

    assert plugin.describe(grants("cpu", cpu3=1, cpu9=1)).cpuset == Cpuset((3, 9), ())


def pooled(host: Path, **config: object) -> Allocator:
    allocator = Allocator()
    devices = cpu(host, reserved=1, shared=2, **config).devices()
    allocator.update("cpu", CpuDevice.info, check_inventory("cpu", CpuDevice.info, devices))
    return allocator


def test_the_pool_is_made_of_the_cores_after_the_reserved_ones(host: Path) -> None:
    devices = {d.id: d for d in cpu(host, reserved=1, shared=2).devices()}

    whole = [f"cpu{n}" for n in range(3, 8)]
    assert [d for d in devices if devices[d].offers] == ["cpu-pool", *whole]
    assert [d for d in devices if devices[d].parent] == ["cpu1", "cpu2"]
    assert devices["cpu-pool"].counters == (Counter("cpu-pool", 2000, "millicore"),)
    assert devices["cpu-pool"].numa_node == 0
    with pytest.raises(InvalidConfig, match="no kernel can have a whole one") as refused:
        cpu(host, reserved=1, shared=7)
    assert "shared-cpu" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("asked", "amounts", "of_the_pool"),
    [
        ("2", ["1", "1"], False),
        ("2.0", ["1", "1"], False),
        ("0.5", ["0.5"], True),
        ("1.5", ["1.5"], True),
        ("0.001", ["0.001"], True),
    ],
)
def test_fractions_come_from_the_pool_alone_and_whole_cores_never(
    host: Path, asked: str, amounts: list[str], of_the_pool: bool
) -> None:
    (claim,) = pooled(host).reserve("k", 1, {"cpu": Amount.parse(asked)}).claims

    assert [str(grant.amount) for grant in claim.grants] == amounts
    assert {grant.device_id == "cpu-pool" for grant in claim.grants} == {of_the_pool}


def test_neither_kind_takes_from_the_other_and_nothing_is_rounded(host: Path) -> None:
    allocator = pooled(host)
    allocator.reserve("whole", 1, {"cpu": Amount(5)})
    allocator.reserve("part", 1, {"cpu": Amount.parse("1.5")})

    (slot,) = allocator.slots()
    shown = (slot.quantum, slot.total, slot.used, slot.free)
    assert tuple(map(str, shown)) == ("0.001", "7", "6.5", "0.5")
    with pytest.raises(
        InsufficientResource, match=r"cpu=0.501 cannot be given: 0.5 free of 2"
    ) as no:
        allocator.reserve("more", 1, {"cpu": Amount.parse("0.501")})
    assert "ending kernel part" in str(no.value.hint)
    assert "ask for 0.5" in str(no.value.hint)
    with pytest.raises(InsufficientResource, match=r"cpu=1 cannot be given: 0 free of 5"):
        allocator.reserve("more", 1, {"cpu": Amount(1)})
    with pytest.raises(InvalidAmount, match=r"multiples of 0\.001 only"):
        allocator.reserve("more", 1, {"cpu": Amount.parse("0.0005")})
    allocator.release("part.1.cpu")
    assert str(allocator.slots()[0].free) == "2"


def test_a_fraction_without_a_pool_is_refused_with_the_key_to_set(host: Path) -> None:
    allocator = Allocator()
    allocator.update("cpu", CpuDevice.info, cpu(host).devices())

    with pytest.raises(InvalidAmount, match="whole cores only") as refused:
        allocator.plan("k", 1, {"cpu": Amount.parse("0.5")})
    assert "set [resource] shared-cpu" in str(refused.value.hint)


def test_an_overcommitted_pool_promises_more_but_to_one_kernel_what_is_there(host: Path) -> None:
    allocator = pooled(host, overcommit="1.25")

    with pytest.raises(InsufficientResource, match=r"cpu=2.1 cannot be given"):
        allocator.reserve("k", 1, {"cpu": Amount.parse("2.1")})
    allocator.reserve("a", 1, {"cpu": Amount.parse("1.999")})
    allocator.reserve("b", 1, {"cpu": Amount.parse("0.501")})
    with pytest.raises(InsufficientResource):
        allocator.reserve("c", 1, {"cpu": Amount.parse("0.001")})


def test_a_part_of_the_pool_is_all_of_its_cores_for_a_part_of_their_time(host: Path) -> None:
    plugin = cpu(host, reserved=1, shared=2)

    assert plugin.describe([Grant("cpu", "cpu-pool", Amount.parse("0.25"))]) == ContainerEdits(
        cpuset=Cpuset((1, 2), (0,)), limits={"cpus": 250}
    )


def test_a_core_that_a_kernel_has_keeps_the_pool_from_giving_it(host: Path) -> None:
    allocator = pooled(host)
    old = Claim("old.1.cpu", "old", 1, "cpu", (Grant("cpu", "cpu1", Amount(1)),))
    allocator.restore(old)

    with pytest.raises(InsufficientResource, match="0 free of 2"):
        allocator.reserve("k", 1, {"cpu": Amount.parse("0.5")})
    allocator.release(old.id)
    assert allocator.reserve("k", 1, {"cpu": Amount.parse("0.5")}).claims


@pytest.mark.parametrize(
    ("factor", "holders"),
    [("1", [1] * 8), ("1.5", [1, 2] * 4), (2, [2] * 8), (1.1, [1] * 8), ("1.25", [1, 1, 1, 2] * 2)],
)
def test_overcommitted_cores_are_promised_to_more_kernels_but_to_each_once(
    host: Path, factor: object, holders: list[int]
) -> None:
    devices = cpu(host, overcommit=factor).devices()

    assert [d.counters[0].capacity for d in devices] == holders
    assert {d.offers[0].most for d in devices if d.counters[0].capacity > 1} <= {1}


def test_cores_are_overcommitted_evenly_and_a_kernel_never_gets_one_twice(host: Path) -> None:
    allocator = Allocator()
    allocator.update("cpu", CpuDevice.info, cpu(host, overcommit=2, cores=[0, 1]).devices())
    [usage] = allocator.slots()
    assert (str(usage.total), str(usage.free)) == ("4", "2")

    first, second, third = (allocator.reserve(k, 1, {"cpu": Amount(1)}).claims for k in "abc")
    assert [c.grants[0].device_id for (c,) in (first, second, third)] == ["cpu0", "cpu1", "cpu0"]
    with pytest.raises(InsufficientResource):
        allocator.reserve("d", 1, {"cpu": Amount(3)})


def test_overcommitted_memory_is_promised_beyond_what_is_there_but_not_to_one(host: Path) -> None:
    (device,) = mem(host, reserved="1m", overcommit="1.5").devices()
    there = 16000 * 1024 - (1 << 20)

    assert (device.counters[0].capacity, device.offers[0].most) == (there * 3 // 2, there)
    assert device.attributes == {"total": str(16000 * 1024), "reserved": str(1 << 20)}


@pytest.mark.parametrize("factor", ["0.5", "much", "-1", ""])
def test_an_overcommit_below_one_is_a_fault(host: Path, factor: str) -> None:
    for plugin in (cpu, mem):
        with pytest.raises(InvalidConfig, match="overcommit"):
            plugin(host, overcommit=factor)


def test_memory_is_one_device_without_what_is_reserved(host: Path) -> None:
    (device,) = mem(host, reserved="1m").devices()

    assert (device.id, device.counters[0].capacity) == ("root", 16000 * 1024 - (1 << 20))
    assert mem(host).describe(grants("mem", root=4096)) == ContainerEdits(limits={"memory": 4096})


@pytest.mark.parametrize("reserved", ["1g", 1 << 30, "much"])
def test_memory_that_cannot_be_reserved_is_a_fault(host: Path, reserved: object) -> None:
    with pytest.raises(InvalidConfig):
        mem(host, reserved=reserved)


def test_a_host_that_does_not_tell_its_memory_disables_mem(tmp_path: Path) -> None:
    with pytest.raises(PluginDisabled, match="meminfo"):
        mem(tmp_path)


def test_the_node_is_measured_without_idle_and_guest_time(host: Path) -> None:
    (busy,) = cpu(host).measure(())
    (used,) = mem(host).measure(())

    ticks = 100 + 20 + 30 + 7 + 8 + 9
    assert (busy.metric, busy.value) == ("cpu_used", ticks / os.sysconf("SC_CLK_TCK"))
    assert (used.value, used.capacity) == (10000 * 1024, 16000 * 1024)


V1 = {
    "v1/cpuacct/cpuacct.usage": "2500000000\n",
    "v1/cpuacct/cpu.stat": "nr_periods 0\n",
    "v1/memory/memory.usage_in_bytes": "9000\n",
    "v1/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 4000\n",
}
V2 = {
    "v2/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
    "v2/memory.current": "9000\n",
    "v2/memory.stat": "anon 1\ninactive_file 4000\n",
}


@pytest.mark.parametrize(
    "cgroups",
    [
        {"cpuacct": "v1/cpuacct", "memory": "v1/memory"},
        {"cpu": "v2", "memory": "v2"},
        {"unified": "v2"},
    ],
)
def test_a_kernel_in_a_cgroup_is_measured_there(
    host: Path, tmp_path: Path, cgroups: dict[str, str]
) -> None:
    write(tmp_path, {**V1, **V2})
    claim = Claim("k.1.mem", "k", 1, "mem", tuple(grants("mem", root=50000)))
    where = {controller: str(tmp_path / name) for controller, name in cgroups.items()}
    subject = Subject("k", (claim,), pids=(), cgroups=where)

    (used,) = (r for r in cpu(host).measure([subject]) if r.kernel_id)
    (held,) = (r for r in mem(host).measure([subject]) if r.kernel_id)

    assert used.value == 2.5
    assert (held.value, held.capacity) == (5000, 50000)


def test_cache_larger_than_what_is_charged_is_not_negative_memory(
    host: Path, tmp_path: Path
) -> None:
    write(tmp_path, {"v2/memory.current": "10", "v2/memory.stat": "inactive_file 4000"})
    subject = Subject("k", cgroups={"memory": str(tmp_path / "v2")})

    assert [r.value for r in mem(host).measure([subject]) if r.kernel_id] == [0]


def test_what_cannot_be_read_is_left_out_and_never_zero(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 100 kB\n", "proc/7/stat": "7 (x) garbage"})
    subject = Subject("k", pids=(7, 8), cgroups={"memory": str(tmp_path / "gone")})

    assert list(cpu(tmp_path).measure([subject])) == []
    assert list(mem(tmp_path).measure([subject])) == []


def test_a_process_name_cannot_fake_its_times(host: Path) -> None:
    fields = "S 1 1 1 0 -1 0 0 0 0 0 100 50 30 20 20 0 1 0 5 0 0"
    write(host, {"proc/7/stat": f"7 (a) R 9 9 9 (b) ) {fields}\n"})

    (used,) = (r for r in cpu(host).measure([Subject("k", pids=(7,))]) if r.kernel_id)

    assert used.value == 200 / os.sysconf("SC_CLK_TCK")


def test_without_a_proportional_share_what_is_resident_counts(host: Path) -> None:
    write(host, {"proc/7/statm": "100 30 5 1 0 20 0\n", "proc/8/smaps_rollup": "x\nPss:  12 kB\n"})

    (used,) = (r for r in mem(host).measure([Subject("k", pids=(7, 8))]) if r.kernel_id)

    assert used.value == 30 * os.sysconf("SC_PAGESIZE") + 12 * 1024


@pytest.fixture
def burner() -> Iterator[int]:
    """A process that has used half a second and 64 MiB, after a child that used as much."""
    program = (
        "import os, sys, time\n"
        "def burn():\n"
        "    while time.process_time() < 0.5: pass\n"
        "if os.fork() == 0:\n"
        "    burn(); os._exit(0)\n"
        "os.wait(); burn()\n"
        "held = b'x' * (64 << 20)\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process.pid
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_real_processes_are_measured_with_the_children_that_they_waited_for(burner: int) -> None:
    subject = Subject("k", pids=(burner,))
    time_, memory = CpuDevice(), MemDevice()

    (used,) = (r.value for r in time_.measure([subject]) if r.kernel_id)
    (held,) = (r.value for r in memory.measure([subject]) if r.kernel_id)

    assert 0.9 < used < 5
    assert 64 << 20 < held < 256 << 20
