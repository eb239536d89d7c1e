"""cuda: what is offered, how parts and wholes exclude each other, and what comes and goes."""

import pytest
from accel_cuda.inventory import devices_of, slot_of
from accel_cuda.model import Card, Partition, Rack
from accel_cuda.plugin import CudaDevice
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Grant, Health
from agent_core.contracts.errors import InsufficientResource, NotFound
from agent_core.contracts.info import Reconfigured
from agent_core.contracts.inventory import check_inventory
from agent_core.resources.allocator import Allocator
from agent_core.resources.slots import parse_request

pytestmark = pytest.mark.requires("gcc")
ONE = Amount(1)


@pytest.fixture
def opened(nvml):
    plugins = []

    def make(**config):
        plugin = CudaDevice()
        plugins.append(plugin)
        plugin.open({"root": str(nvml.root), **config})
        return plugin

    yield make
    for plugin in plugins:
        plugin.close()


def by_id(plugin):
    return {device.id: device for device in plugin.devices()}


def allocator_of(plugin):
    allocator = Allocator()
    allocator.update("cuda", plugin.info, plugin.devices())
    return allocator


def free(allocator):
    return {slot.slot: str(slot.free) for slot in allocator.slots()}


def split(nvml, *partitions, **fields):
    """Show GPU-a whole and GPU-b in MIG mode."""
    nvml.show(nvml.gpu("GPU-a", 1), nvml.gpu("GPU-b", 2, mig=1, **fields), *partitions)


def test_whole_cards_are_known_by_their_uuid_and_place(opened):
    a, b = opened().devices()

    assert (a.id, a.model, a.physical_key) == ("GPU-a", "NVIDIA A100-SXM4-40GB", "0000:01:00.0")
    assert (a.numa_node, b.numa_node) == (0, None)
    assert a.attributes["nvidia_driver"] == "550.54.15"
    assert (a.attributes["cuda_runtime"], a.attributes["mig"]) == ("12.4", "disabled")
    assert free(allocator_of(opened())) == {"cuda.device": "2"}


def test_ids_stay_with_their_cards_when_the_order_changes(opened, nvml):
    """The same card has the same id, place and node files, whatever its index is."""
    before = {d.id: (d.physical_key, d.numa_node) for d in opened().devices()}
    nvml.show(nvml.gpu("GPU-b", 2), nvml.gpu("GPU-a", 1))

    after = opened()

    assert {d.id: (d.physical_key, d.numa_node) for d in after.devices()} == before
    nodes = {n.path for n in after.describe([Grant("cuda.device", "GPU-b", ONE)]).device_nodes}
    assert "/dev/nvidia2" in nodes


def test_partitions_are_unique_slots_named_by_their_memory(opened, nvml):
    split(
        nvml,
        nvml.mig("GPU-b", "MIG-1", 1, 20),
        nvml.mig("GPU-b", "MIG-2", 2, 10),
        nvml.mig("GPU-b", "MIG-3", 3, 10),
    )
    plugin = opened()

    assert [d.id for d in plugin.devices()] == ["GPU-a", "GPU-b", "MIG-1", "MIG-2", "MIG-3"]
    one = by_id(plugin)["MIG-1"]
    assert (one.parent, one.physical_key) == ("GPU-b", "0000:02:00.0")
    allocator = allocator_of(plugin)
    assert free(allocator) == {
        "cuda.device": "1", "cuda.device:20g-mig": "1", "cuda.device:10g-mig": "2",
    }  # fmt: skip
    for kernel in ("k1", "k2"):
        allocator.reserve(kernel, 1, {"cuda.device:10g-mig": ONE})
    with pytest.raises(InsufficientResource):
        allocator.reserve("k3", 1, {"cuda.device:10g-mig": ONE})
    allocator.reserve("k3", 1, {"cuda.device:20g-mig": ONE})


def test_a_card_in_mig_mode_without_instances_offers_nothing(opened, nvml):
    split(nvml)

    assert by_id(opened())["GPU-b"].offers == ()
    assert free(allocator_of(opened())) == {"cuda.device": "1"}


def test_seven_instances_of_a_card_can_all_be_taken(opened, nvml):
    split(nvml, *(nvml.mig("GPU-b", f"MIG-{n}", n, 5) for n in range(7)))
    allocator = allocator_of(opened())

    for number in range(7):
        allocator.reserve(f"k{number}", 1, {"cuda.device:5g-mig": ONE})

    assert free(allocator)["cuda.device:5g-mig"] == "0"


def test_instances_that_share_the_memory_of_one_can_all_be_taken_and_say_so(opened, nvml):
    parts = (
        nvml.mig(
            "GPU-b", f"MIG-{n}", 1, 40, ci=n, slices=1, of_slices=7,
            name="NVIDIA_A100_MIG_1c.7g.40gb",
        )
        for n in range(7)
    )  # fmt: skip
    split(nvml, *parts)
    allocator = allocator_of(opened())

    for number in range(7):
        allocator.reserve(f"k{number}", 1, {"cuda.device:1c.40g-mig": ONE})

    assert free(allocator)["cuda.device:1c.40g-mig"] == "0"


def test_a_held_card_keeps_out_the_partitions_made_of_it(opened, nvml):
    """Somebody splits a card that a kernel holds: none of its parts is given to another."""
    plugin = opened()
    allocator = allocator_of(plugin)
    claims = allocator.reserve("k1", 1, {"cuda.device": Amount(2)}).claims

    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    allocator.update("cuda", plugin.info, plugin.devices())

    assert free(allocator)["cuda.device:20g-mig"] == "0"
    allocator.release(claims[0].id)
    assert free(allocator)["cuda.device:20g-mig"] == "1"


def test_a_held_partition_keeps_out_the_whole_card(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    plugin = opened()
    allocator = allocator_of(plugin)
    claims = allocator.reserve("k1", 1, {"cuda.device:20g-mig": ONE}).claims

    nvml.show(nvml.gpu("GPU-a", 1), nvml.gpu("GPU-b", 2))
    allocator.update("cuda", plugin.info, plugin.devices())

    assert free(allocator)["cuda.device"] == "1"
    allocator.release(claims[0].id)
    assert free(allocator)["cuda.device"] == "2"


def test_a_claim_is_restored_on_the_same_card_after_the_order_changed(opened, nvml):
    (claim,) = allocator_of(opened()).reserve("k1", 1, {"cuda.device": ONE}).claims
    nvml.show(nvml.gpu("GPU-b", 2), nvml.gpu("GPU-a", 1))
    allocator = allocator_of(opened())

    allocator.apply(claim)

    (other,) = allocator.reserve("k2", 1, {"cuda.device": ONE}).claims
    assert {claim.grants[0].device_id, other.grants[0].device_id} == {"GPU-a", "GPU-b"}


def test_whole_and_part_in_one_request_exclude_each_other(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    catalogue = allocator_of(opened()).catalogue

    faults = parse_request({"cuda.device": "1", "cuda.device:20g-mig": "1"}, catalogue)[1]

    assert "exclude each other" in faults[0].message


def test_a_changed_layout_replaces_the_slots(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    plugin = opened()
    allocator = allocator_of(plugin)

    split(nvml, nvml.mig("GPU-b", "MIG-8", 8, 5), nvml.mig("GPU-b", "MIG-9", 9, 5))
    allocator.update("cuda", plugin.info, plugin.devices())

    assert free(allocator) == {"cuda.device": "1", "cuda.device:5g-mig": "2"}
    with pytest.raises(NotFound, match="MIG-1"):
        plugin.describe([Grant("cuda.device:20g-mig", "MIG-1", ONE)])


# ---- health --------------------------------------------------------------------------------------


def test_a_lost_card_hides_no_other_and_comes_back(opened, nvml):
    plugin = opened()
    allocator = allocator_of(plugin)
    nvml.show(nvml.gpu("GPU-a", 1, error=15), nvml.gpu("GPU-b", 2))

    lost = by_id(plugin)["GPU-a"]
    allocator.update("cuda", plugin.info, plugin.devices())

    assert (lost.health, lost.physical_key, lost.numa_node) == (Health.LOST, "0000:01:00.0", 0)
    assert "GPU is lost" in lost.evidence
    assert by_id(plugin)["GPU-b"].health is Health.HEALTHY
    assert free(allocator) == {"cuda.device": "1"}

    nvml.show(nvml.gpu("GPU-a", 1), nvml.gpu("GPU-b", 2))
    assert {d.health for d in plugin.devices()} == {Health.HEALTHY}


def test_a_card_that_was_pulled_is_lost_with_its_partitions(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    plugin = opened()

    nvml.show(nvml.gpu("GPU-a", 1))
    found = by_id(plugin)

    assert {i: d.health for i, d in found.items()} == {
        "GPU-a": Health.HEALTHY, "GPU-b": Health.LOST, "MIG-1": Health.LOST,
    }  # fmt: skip
    assert plugin.describe([Grant("cuda.device:20g-mig", "MIG-1", ONE)]).env


def test_a_card_that_is_added_is_seen(opened, nvml):
    """NVML lists cards when it is initialised; the bound PCI devices tell when that is due."""
    nvml.file("sys/bus/pci/drivers/nvidia/0000:01:00.0")
    plugin = opened()
    nvml.show(nvml.gpu("GPU-a", 1), nvml.gpu("GPU-b", 2), nvml.gpu("GPU-c", 3))
    assert len(plugin.devices()) == 2

    nvml.file("sys/bus/pci/drivers/nvidia/0000:03:00.0")

    assert len(plugin.devices()) == 3


def test_nvml_is_not_shut_down_under_a_reader(opened, nvml, monkeypatch):
    """While another thread measures, looking goes on and initialising waits for the next time."""
    monkeypatch.setattr("accel_cuda.driver._PATIENCE", 0.01)
    plugin = opened()
    nvml.show(nvml.gpu("GPU-a", 1, error=15), nvml.gpu("GPU-b", 2))
    plugin.devices()
    nvml.show(nvml.gpu("GPU-a", 1), nvml.gpu("GPU-b", 2))

    with plugin._driver.using():
        assert by_id(plugin)["GPU-a"].health is Health.LOST

    assert by_id(plugin)["GPU-a"].health is Health.HEALTHY


@pytest.mark.parametrize(
    ("fields", "health", "words"),
    [
        ({"retired": 1}, Health.UNHEALTHY, "retired memory pages are pending"),
        ({"pending": 1}, Health.UNHEALTHY, "remapped memory rows are pending"),
        ({"failed": 1}, Health.UNHEALTHY, "could not be remapped"),
        ({"ecc": 3}, Health.UNHEALTHY, "3 uncorrectable memory errors"),
        ({"error": 16}, Health.UNHEALTHY, "GPU requires restart"),
        ({"error": 999}, Health.UNKNOWN, "Unknown Error"),
        ({"error": 10, "error_in": "nvmlDeviceGetName"}, Health.UNKNOWN, "Timeout"),
        ({"retired": -1, "pending": -1, "ecc": -1}, Health.HEALTHY, ""),
    ],
)
def test_what_a_card_says_of_itself_is_its_health(opened, nvml, fields, health, words):
    plugin = opened()
    nvml.show(nvml.gpu("GPU-a", 1, **fields), nvml.gpu("GPU-b", 2))

    found = by_id(plugin)

    assert found["GPU-a"].health is health
    assert words in found["GPU-a"].evidence
    assert found["GPU-a"].model == "NVIDIA A100-SXM4-40GB"
    assert found["GPU-b"].health is Health.HEALTHY


def test_a_card_that_could_never_be_read_offers_nothing(opened, nvml):
    nvml.show(nvml.gpu("GPU-a", 1, error=999, error_in="nvmlDeviceGetPciInfo_v3"),
              nvml.gpu("GPU-b", 2))  # fmt: skip
    found = by_id(opened())

    assert found["GPU-a"].health is Health.UNKNOWN
    assert (found["GPU-a"].offers, found["GPU-a"].counters) == ((), ())
    assert found["GPU-b"].offers


def test_instances_that_cannot_be_listed_are_not_forgotten(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    plugin = opened()
    split(nvml, error=999, error_in="nvmlDeviceGetMigDeviceHandleByIndex")

    assert by_id(plugin)["MIG-1"].health is Health.UNKNOWN


def test_without_its_driver_every_card_is_unknown_until_it_is_back(opened, nvml):
    plugin = opened()
    nvml.file("sys/bus/pci/drivers/nvidia/0000:01:00.0")
    nvml.show(init=9)

    assert {d.health for d in plugin.devices()} == {Health.UNKNOWN}
    assert plugin.measure(()) == []

    nvml.show(nvml.gpu("GPU-a", 1), nvml.gpu("GPU-b", 2))
    assert {d.health for d in plugin.devices()} == {Health.HEALTHY}


# ---- what a container is told --------------------------------------------------------------------


def test_a_container_finds_its_cards_by_nodes_and_environment(opened):
    edits = opened().describe([Grant("cuda.device", d, ONE) for d in ("GPU-b", "GPU-a")])

    assert edits.env == {
        "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b",
        "NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }
    assert [(n.path, n.host_path) for n in edits.device_nodes] == [
        (path, path)
        for path in ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidia2")
    ]
    assert (edits.cdi_names, edits.device_requests) == ((), ())
    assert edits.resource_data == {
        "CUDA_GLOBAL_DEVICE_IDS": "0:0,1:1", "CUDA_RESOURCE_VIRTUALIZED": "0",
    }  # fmt: skip


def test_a_partition_comes_with_the_nodes_that_open_it(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 4, 20))
    access = "proc/driver/nvidia/capabilities/gpu2/mig/gi4"
    nvml.file(f"{access}/access", "DeviceFileMinor: 39\nDeviceFileMode: 292\n")
    nvml.file(f"{access}/ci0/access", "DeviceFileMinor: 40\nDeviceFileMode: 292\n")

    edits = opened().describe([Grant("cuda.device:20g-mig", "MIG-1", ONE)])

    assert edits.env["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert [node.path for node in edits.device_nodes][2:] == [
        "/dev/nvidia2", "/dev/nvidia-caps/nvidia-cap39", "/dev/nvidia-caps/nvidia-cap40",
    ]  # fmt: skip


def test_each_way_of_injection_gives_devices_once(opened, nvml):
    split(nvml, nvml.mig("GPU-b", "MIG-1", 1, 20))
    grants = [Grant("cuda.device:20g-mig", "MIG-1", ONE)]

    cdi = opened(injection="cdi").describe(grants)
    request = opened(injection="request").describe(grants)
    env = opened(injection="env", **{"driver-capabilities": ["compute"]}).describe(grants)

    assert cdi.cdi_names == ("nvidia.com/gpu=MIG-1",)
    assert (cdi.device_nodes, cdi.device_requests) == ((), ())
    (asked,) = request.device_requests
    assert (asked.driver, asked.device_ids) == ("nvidia", ("MIG-1",))
    assert asked.capabilities == ("compute", "gpu", "utility")
    assert (request.device_nodes, request.cdi_names) == ((), ())
    assert cdi.env == request.env == {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    assert (env.device_nodes, env.cdi_names, env.device_requests) == ((), (), ())
    assert env.env["NVIDIA_DRIVER_CAPABILITIES"] == "compute"


def test_a_changed_way_of_injection_is_applied_at_once(opened, nvml):
    plugin = opened()
    root = str(nvml.root)

    assert plugin.reconfigure({"root": root, "injection": "cdi"}) is Reconfigured.APPLIED
    assert plugin.describe([Grant("cuda.device", "GPU-a", ONE)]).cdi_names
    assert plugin.reconfigure({"root": "/elsewhere"}) is Reconfigured.NEEDS_RESTART


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "mb", "slices", "slot"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864, (1, 1), "cuda.device:5g-mig"),
        ("NVIDIA H200 MIG 1g.18gb", 16384, (1, 1), "cuda.device:18g-mig"),
        ("NVIDIA A100 MIG 1g.10gb+me", 9856, (1, 1), "cuda.device:10g-mig"),
        ("NVIDIA A100 MIG 2c.3g.20gb", 19968, (2, 3), "cuda.device:2c.20g-mig"),
        ("Something new", 9856, (1, 1), "cuda.device:10g-mig"),
    ],
)
def test_a_slot_is_named_by_the_profile_or_by_the_memory(model, mb, slices, slot):
    partition = Partition("MIG-1", model, mb << 20, 1, 0, *slices)

    assert slot_of(partition) == slot


def test_a_card_that_shares_the_hosts_memory_is_offered_by_its_parts(opened, nvml):
    nvml.show(nvml.gpu("GPU-a", 1, total=-1))

    assert [c.id for c in by_id(opened())["GPU-a"].counters] == ["GPU-a.parts"]
    assert free(allocator_of(opened())) == {"cuda.device": "1"}


@given(layout=st.lists(st.integers(1, 7), min_size=1, max_size=7), data=st.data())
def test_all_partitions_of_a_card_fit_into_it_and_leave_no_whole(layout, data):
    """Whatever the layout: all instances can be held together, and any one keeps the card."""
    parts = tuple(
        Partition(f"MIG-{gi}-{ci}", "", data.draw(st.integers(0, 90 << 30)), gi, ci)
        for gi, sharers in enumerate(layout)
        for ci in range(sharers)
    )
    card = Card("GPU-a", address="0000:01:00.0", memory=80 << 30, mig=True, partitions=parts)
    devices = check_inventory("cuda", CudaDevice.info, list(devices_of(Rack(cards=(card,)))))

    room = {c.id: c.capacity for c in devices[0].counters}
    for partition in devices[1:]:
        for counter in room.keys() & partition.offers[0].draws.keys():
            room[counter] -= partition.offers[0].draws[counter]
    assert all(left >= 0 for left in room.values())
    assert room["GPU-a.parts"] < 100


@given(memory=st.integers(1, 1 << 50), of=st.integers(1, 7), part=st.integers(0, 7), name=st.text())
def test_every_partition_has_a_declared_slot(memory, of, part, name):
    slot = slot_of(Partition("MIG-1", name, memory, 1, 0, part, of))

    assert CudaDevice.info.slot(slot).name == "cuda.device:*-mig"


def test_a_claim_of_a_device_that_is_gone_is_released_and_not_described(opened):
    plugin = opened()
    gone = Grant("cuda.device", "GPU-z", ONE)

    plugin.release(Claim("k.1.cuda", "k", 1, "cuda", (gone,)))
    with pytest.raises(NotFound, match="GPU-z"):
        plugin.describe([gone])
