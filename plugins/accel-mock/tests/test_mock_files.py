"""mock: its files, their faults, and several kinds beside each other."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accel_mock.document import LARGEST
from accel_mock.lines import Lines

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Grant, Subject
from agent_core.contracts.info import NumberFormat
from agent_core.resources.allocator import Allocator
from agent_core.resources.slots import parse_request

EXAMPLES = Path(__file__).parents[3] / "examples"
CUDA = 'slot_name = "cuda"\n'
ROCM = 'slot_name = "rocm"\n'


def allocator_of(plugin: Any) -> Allocator:
    allocator = Allocator()
    devices = plugin.devices()
    allocator.update("mock", plugin.info, devices)
    return allocator


def free(plugin: Any) -> dict[str, str]:
    return {s.slot: str(s.free) for s in allocator_of(plugin).slots()}


# ---- the examples --------------------------------------------------------------------------------


def test_the_example_of_partitions_has_two_gpus_and_seven_partitions(bench: Any) -> None:
    plugin = bench.open(str(EXAMPLES / "cuda-mock-mig.toml"))

    assert free(plugin) == {
        "cuda.device": "2",
        "cuda.device:10g-mig": "2",
        "cuda.device:20g-mig": "1",
        "cuda.device:5g-mig": "4",
        "cuda.shares": "2",
    }
    devices = plugin.devices()
    assert [d.numa_node for d in devices] == [0, 1, 0, 0, 0, 1, 1, 1, 1]
    assert [d.attributes["memory"] for d in devices[2:4]] == [str(20 << 30), str(10 << 30)]
    mother = "0f6b2c1e-7d0a-4a58-9e43-b1c2a7e54a03"
    assert [d.id for d in devices[2:5]] == [f"MIG-{mother}/{n}/0" for n in range(3)]


def test_mixed_cards_and_partitions_are_each_shown_as_what_they_are(bench: Any) -> None:
    plugin = bench.open(str(EXAMPLES / "cuda-mock-mig.toml"))

    shown = {s.name: (s.human_readable_name, s.number_format) for s in plugin.info.slots}

    assert shown == {
        "cuda.device": ("GPU", NumberFormat(round_length=0)),
        "cuda.shares": ("fGPU", NumberFormat(round_length=2)),
        **{f"cuda.device:{n}g-mig": ("MIG", NumberFormat()) for n in (5, 10, 20)},
    }


def test_the_example_of_rocm_has_four_linked_gpus(bench: Any) -> None:
    plugin = bench.open(str(EXAMPLES / "rocm-mock.toml"), allocation_mode="discrete")

    assert free(plugin) == {"rocm.device": "4"}
    first, _, third, _ = plugin.devices()
    assert (first.links, third.links) == ({third.id: "xgmi"}, {first.id: "xgmi"})
    edits = plugin.describe([Grant("rocm.device", third.id, Amount(1))])
    assert edits.env["HIP_VISIBLE_DEVICES"] == third.id
    assert edits.resource_data["ROCM_GLOBAL_DEVICE_IDS"] == "0:2"


# ---- several kinds -------------------------------------------------------------------------------


def test_several_kinds_are_offered_beside_each_other(bench: Any, card: Any) -> None:
    bench.write("cuda.toml", CUDA + card("c1"))
    bench.write("rocm.toml", ROCM + card("r1"))
    plugin = bench.open(
        "cuda.toml", "rocm.toml", kinds={"rocm": {"allocation_mode": "discrete"}}, quantum="0.1"
    )
    allocator = allocator_of(plugin)
    assert {s.slot: str(s.quantum) for s in allocator.slots()} == {
        "cuda.device": "1", "cuda.shares": "0.1", "rocm.device": "1",
    }  # fmt: skip
    assert len({d.physical_key for d in plugin.devices()}) == 2

    request, faults = parse_request({"cuda.shares": "0.5", "rocm.device": "1"}, allocator.catalogue)
    assert faults == []
    (claim,) = allocator.reserve("k", 1, request).claims
    edits = plugin.describe(claim.grants)

    assert edits.env["CUDA_VISIBLE_DEVICES"] == edits.env["BACKENDAI_MOCK_CUDA_DEVICES"] == "c1"
    assert edits.env["HIP_VISIBLE_DEVICES"] == edits.env["BACKENDAI_MOCK_ROCM_DEVICES"] == "r1"
    assert edits.resource_data["CUDA_RESOURCE_VIRTUALIZED"] == "1"
    assert edits.resource_data["ROCM_RESOURCE_VIRTUALIZED"] == "0"
    assert "ROCM_RESERVED_MEMORY" not in edits.resource_data
    held = [r for r in plugin.measure([Subject("k", (claim,))]) if r.kernel_id]
    assert {r.metric: r.capacity for r in held} == {
        "cuda_mem": 20 << 30, "cuda_util": 1.0, "rocm_mem": 40 << 30, "rocm_util": 1.0,
    }  # fmt: skip


def test_slots_exclude_each_other_within_their_kind_only(bench: Any, card: Any) -> None:
    bench.write("cuda.toml", CUDA + card("c1"))
    bench.write("rocm.toml", ROCM + card("r1"))
    catalogue = allocator_of(bench.open("cuda.toml", "rocm.toml")).catalogue

    assert parse_request({"cuda.device": "1", "rocm.shares": "1"}, catalogue)[1] == []
    (fault,) = parse_request(
        {"cuda.device": "1", "cuda.shares": "1", "rocm.shares": "1"}, catalogue
    )[1]
    assert fault.details == {"slots": ["cuda.device", "cuda.shares"]}


def test_two_files_of_one_slot_or_one_device_are_both_named(bench: Any, card: Any) -> None:
    bench.write("a.toml", CUDA + card("d1"))
    bench.write("b.toml", CUDA + card("d2"))
    bench.write("c.toml", ROCM + card("d1"))

    assert bench.faults("a.toml", "b.toml", "c.toml") == [
        "a.toml and b.toml both have the slot_name 'cuda'",
        "a.toml and c.toml both have the device 'd1'",
    ]


def test_the_faults_of_all_files_are_told_together(bench: Any, card: Any) -> None:
    bench.write("a.toml", CUDA + card("d1", memory_size='"12 parsecs"'))
    bench.write("b.toml", ROCM)

    faults = bench.faults("a.toml", "b.toml")

    assert len(faults) == 2
    assert faults[0].startswith("a.toml:6: devices[0]: memory_size is no size: '12 parsecs'")
    assert faults[1] == "b.toml:1: devices is not a list of at least one device"


def test_a_cuda_device_of_another_name_speaks_cuda(bench: Any, card: Any) -> None:
    named = 'slot_name = "old-gpu"\ndevice_plugin_name = "{}"\n'
    bench.write("cards.toml", named.format("CUDADevice") + card("d1"))
    env = bench.open().describe([Grant("old-gpu.device", "d1", Amount(1))]).env
    assert env["CUDA_VISIBLE_DEVICES"] == "d1"

    bench.write("cards.toml", named.format("MockDevice") + card("d1"))
    env = bench.open().describe([Grant("old-gpu.device", "d1", Amount(1))]).env
    assert env == {
        "BACKENDAI_MOCK_OLD_GPU_DEVICES": "d1",
        "BACKENDAI_MOCK_OLD_GPU_DEVICE_COUNT": "1",
    }


def test_one_kernels_devices_of_two_kinds_of_cuda_are_told_together(bench: Any, card: Any) -> None:
    bench.write("a.toml", CUDA + card("d1"))
    bench.write("b.toml", 'slot_name = "old"\ndevice_plugin_name = "CUDADevice"\n' + card("d2"))
    plugin = bench.open("a.toml", "b.toml")

    edits = plugin.describe(
        [Grant(f"{n}.device", d, Amount(1)) for n, d in (("old", "d2"), ("cuda", "d1"))]
    )

    assert edits.env["CUDA_VISIBLE_DEVICES"] == "d1,d2"
    assert edits.env["BACKENDAI_MOCK_CUDA_DEVICE_COUNT"] == "2"


# ---- single keys ---------------------------------------------------------------------------------


def test_attributes_are_those_of_every_device_and_cuda_has_its_usual_ones(
    bench: Any, card: Any
) -> None:
    bench.write("cards.toml", CUDA + '[attributes]\ncuda_runtime = "12.4"\nrack = 7\n' + card("d1"))

    (device,) = bench.open().devices()

    assert device.attributes == {
        "nvidia_driver": "450.00.00", "cuda_runtime": "12.4", "rack": "7",
        "index": "0", "memory": str(40 << 30), "processors": "108",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["is_mig_device", "is_mig_devices"])
def test_a_partition_is_marked_by_either_spelling(key: str, bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1", model_name='"MIG-10g"', **{key: "true"}))

    assert free(bench.open()) == {"cuda.device:10g-mig": "1"}


@pytest.mark.parametrize("mask", ["d2, MIG-d3/1/0,nothing", ["d2", "MIG-d3/1/*"]])
def test_a_masked_device_is_in_no_slot_and_no_reading(
    mask: Any, bench: Any, card: Any, caplog: pytest.LogCaptureFixture
) -> None:
    part = card("d3", model_name='"MIG-10g"', is_mig_device="true", count="2")
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + part)

    plugin = bench.open(device_mask=mask)

    idle = "device-mask 'nothing' matches no device"
    assert [r.getMessage() for r in caplog.records] == [f"mock: {idle}"] * ("nothing" in mask)
    left = {"d1", "MIG-d3/0/0"}
    assert {d.id for d in plugin.devices()} == left
    assert {r.device_id for r in plugin.measure(())} == left
    assert free(plugin) == {"cuda.device": "1", "cuda.shares": "1", "cuda.device:10g-mig": "1"}


def test_the_mask_of_a_card_covers_its_partitions_and_may_leave_nothing(
    bench: Any, card: Any
) -> None:
    part = card("d1", model_name='"MIG-10g"', is_mig_device="true", memory_size='"10G"')
    bench.write("cards.toml", CUDA + card("d1") + part)

    plugin = bench.open(**{"device-mask": "d1"})

    assert list(plugin.devices()) == list(plugin.measure(())) == []


def test_many_devices_are_written_once_and_have_derived_uuids(bench: Any, card: Any) -> None:
    text = CUDA + card("c59395cd-ac91-4cd3-a1b0-3d2568aa2d01", count="2000", numa_node="[0, 1]")
    bench.write("cards.toml", text)

    devices = bench.open().devices()

    assert len({d.id for d in devices}) == 2000
    assert devices[0].id == "c59395cd-ac91-4cd3-a1b0-3d2568aa2d01"
    assert devices[1].id == "6e140987-6928-57ea-9c41-025015a1ee3f"
    assert [d.numa_node for d in devices[:3]] == [0, 1, 0]
    assert len({d.physical_key for d in devices}) == 2000


def test_the_reserved_memory_is_told_to_holders_of_shares(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1"))
    plugin = bench.open(reserved_memory="1g")

    share = plugin.describe([Grant("cuda.shares", "d1", Amount(5, 1))]).resource_data
    whole = plugin.describe([Grant("cuda.device", "d1", Amount(1))]).resource_data

    assert share["CUDA_RESERVED_MEMORY"] == str(1 << 30)
    assert "CUDA_RESERVED_MEMORY" not in whole


def test_a_table_of_formats_for_no_slot_is_warned_about(
    bench: Any, card: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write("cards.toml", f"{CUDA}[formats.devices]\ndisplay_unit = 'GPU'\n" + card("d1"))

    bench.open()

    assert "cards.toml:2: formats.devices is of no slot that there is" in caplog.text
    assert "did you mean 'device'?" in caplog.text


def test_a_slot_without_a_format_is_described_all_the_same(bench: Any, card: Any) -> None:
    bench.write(
        "cards.toml", CUDA + card("d1") + card("d2", model_name='"MIG-5g"', is_mig_device="true")
    )

    slots = bench.open().info.slots

    assert [slot.human_readable_name for slot in slots] == ["cuda"] * 3
    assert [slot.description.split()[0] for slot in slots] == ["Whole", "Partitions", "Shares"]


# ---- faults --------------------------------------------------------------------------------------


FAULTS = {
    'device_plugin_name = "CUDADevce"': "; did you mean 'CUDADevice'?",
    "device_plugin_name = 3": "device_plugin_name is 3, not one of CUDADevice, MockDevice",
    "attributes = 3": "attributes is not a table",
    "attributes = { a = [1] }": "attributes: a is not a short text",
    "links = 3": "links is not a list of tables",
    "links = [3]": "links[0] is not a table",
    'links = [{ devices = ["card-1"] }]': "is ['card-1'], not a list of different devices",
    'links = [{ devices = ["card-1", "card-9"] }]': "names 'card-9', which is not there; did you",
    "script = [{ at = 1 }]": "does nothing; a step has one of device, remove, add, link, unlink",
    'script = [{ remove = "a", add = "b" }]': "script[0]: has remove and add; a step has one of",
    'script = [{ remove = "card-7" }]': "is about 'card-7', which is not there; did you mean",
    'script = [{ device = "card-1" }]': "script[0]: health is missing",
    'script = [{ device = "card-1", health = "sick" }]': "script[0]: health is 'sick', not one of",
    'script = [{ remove = "card-1", at = -1 }]': "at is -1, not seconds, or two of them in order",
    'script = [{ remove = "card-1", at = [5, 2] }]': "at is [5, 2], not seconds, or two of them",
    'script = [{ remove = "card-1", every = "day" }]': "script[0]: every is 'day', not seconds",
    'script = [{ add = { mother_uuid = "card-2" } }]': "script[0].add: memory_size is missing",
    "formats = { device = 3 }": "formats: device is not a table",
    "formats = { device = { display_unit = 3 } }": "display_unit is 3, not a line of text",
    "formats = { device = { number_format = { round_length = -1 } } }": "round_length is -1, not",
    "attributes = { " + ", ".join(f"a{n} = 1" for n in range(201)) + " }": "has 201 attributes;",
    'format = "x"': "the file has the unknown key 'format'; did you mean 'formats'?",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_anywhere_is_named_with_its_line(text: str, bench: Any, card: Any) -> None:
    bench.write("cards.toml", f"{CUDA}{text}\n{card('card-1')}")

    faults = bench.faults()

    assert all(fault.startswith("cards.toml:2: ") for fault in faults)
    assert any(FAULTS[text] in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("memory_size", '"12 parsecs"', "no size"),
        ("memory_size", "-5", "no size"),
        ("memory_size", "0", "is zero"),
        ("subproc_count", "-3", "is -3, not a whole number from 1"),
        ("subproc_count", "1.5", "is 1.5, not a whole number"),
        ("subproc_count", "true", "is True, not a whole number"),
        ("numa_node", "-1", "is -1, not a whole number from 0 on"),
        ("numa_node", "[0, -1]", "is [0, -1], not"),
        ("count", "0", "is 0, not a whole number from 1 to 4096"),
        ("count", "5000", "is 5000, not a whole number from 1 to 4096"),
        ("model_name", '""', "is '', not a line"),
        ("is_mig_device", '"yes"', "is 'yes', not true or false"),
        ("health", '"fine"', "is 'fine', not one of healthy"),
        ("evidence", '"a\\nb"', "is 'a\\nb', not a line"),
    ],
)
def test_a_fault_of_a_device_is_named_with_the_line_of_its_key(
    key: str, value: str, words: str, bench: Any, card: Any
) -> None:
    text = CUDA + card("d1", **{key: value})
    bench.write("cards.toml", text)

    (fault,) = bench.faults()

    line = next(n for n, text in enumerate(text.splitlines(), 1) if text.startswith(key))
    assert fault.startswith(f"cards.toml:{line}: devices[0]: {key} ")
    assert words in fault


def test_more_devices_than_a_node_can_have_are_refused(bench: Any, card: Any) -> None:
    bench.write("a.toml", CUDA + card("d1", count="4000") + card("d2", count="100"))
    bench.write("b.toml", CUDA + card("d1", count="4000"))
    bench.write("c.toml", ROCM + card("d3", count="100"))

    assert bench.faults("a.toml") == [
        "a.toml:8: devices[1]: is beyond the 4096 devices that a node can have"
    ]
    assert bench.faults("b.toml", "c.toml") == ["4100 devices in all; a node has at most 4096"]


def test_a_partition_has_to_fit_its_mother_and_its_kind(bench: Any, card: Any) -> None:
    part = card("d1", model_name='"MIG-80g"', memory_size='"80G"', is_mig_device="true")
    bench.write("cards.toml", CUDA + card("d1") + part)
    assert bench.faults() == [
        f"cards.toml:11: devices[1]: memory_size is more than the {40 << 30} bytes of its mother"
    ]

    bench.write("cards.toml", ROCM + part)
    (fault,) = bench.faults()
    assert fault.startswith("cards.toml:2: devices[0]: is a MIG partition, which only device_plug")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "odd: is a directory, not a file"),
        (fifo, "odd: is not a regular file"),
        (lambda path: path.symlink_to("/no/such/file"), "odd: is not there"),
        (lambda path: path.symlink_to("/proc/self/mem"), "odd: cannot be read: Input/output error"),
        (too_large, f"odd: is larger than {LARGEST >> 20} MiB"),
        (lambda path: path.write_bytes(b'slot_name = "cuda"\n\xff'), "odd:2: is not UTF-8"),
        (lambda path: path.write_text("slot_name = "), "odd:1: is not TOML: Invalid value"),
        (lambda path: path.write_text("a = 1\nb = 'x"), "odd:2: is not TOML: "),
        (lambda path: path.write_text("a = " + "[" * 100_000), "odd: is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(
    make: Callable[[Path], object], words: str, bench: Any
) -> None:
    make(bench.directory / "odd")

    (fault,) = bench.faults("odd")

    assert words in fault


def test_the_slots_of_the_agent_itself_are_not_mocked(bench: Any, card: Any) -> None:
    bench.write("cards.toml", 'slot_name = "cpu"\n' + card("d1"))

    assert bench.faults() == ["cards.toml:1: slot_name is 'cpu', which is the agent's own"]


def test_more_links_than_a_device_can_have_are_refused(bench: Any, card: Any) -> None:
    devices = [f"d{n}" for n in range(300)]
    listed = "".join(map(card, devices))
    bench.write("cards.toml", f"{CUDA}links = [{{ devices = {devices} }}]\n{listed}")

    faults = bench.faults()

    assert len(faults) == 300
    assert faults[0].endswith("has 299 links; 256 is the most")


def test_every_configured_file_that_is_missing_is_named(bench: Any) -> None:
    assert bench.faults("a", "b") == [
        "[plugin.mock] names a, which is not there",
        "[plugin.mock] names b, which is not there",
    ]


def test_lines_are_found_in_every_way_to_write_toml() -> None:
    lines = Lines(
        'a = 1 # = 2\n"b c".d = """\n[[x]]\n"""\n'
        "[[x]]\nk = [\n  { m = 1,\n n = 2 },\n  3\n]\n[x.y.z]\nq = 1979-05-27 07:32:00\n"
        "[[x]]\nk = { a.b = [1, 2] }\n[[x.w]]\n[[x.w]]\nv=[]"
    )

    found = {
        place: lines.of(place)
        for place in (
            ("a",), ("b c", "d"), ("x",), ("x", 0, "k"), ("x", 0, "k", 0, "n"), ("x", 0, "k", 1),
            ("x", 0, "y", "z", "q"), ("x", 1), ("x", 1, "k", "a", "b", 1), ("x", 1, "w", 1, "v"),
            ("x", 1, "no", "such"), ("nothing",),
        )
    }  # fmt: skip

    assert list(found.values()) == [1, 2, 5, 6, 8, 9, 12, 13, 14, 17, 13, 1]
