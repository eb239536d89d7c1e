"""mock: its file, its modes, and what a container is told."""

from pathlib import Path
from typing import Any

import pytest
from accel_mock.plugin import MockDevice

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Grant, Health, Subject
from agent_core.contracts.errors import InvalidConfig, NotFound, PluginDisabled
from agent_core.contracts.info import NumberFormat
from agent_core.resources.allocator import Allocator
from agent_core.resources.slots import parse_request

EXAMPLE = Path(__file__).parents[3] / "examples" / "mock-accelerator.toml"
D01, D02, D03, D04 = (f"c59395cd-ac91-4cd3-a1b0-3d2568aa2d0{n}" for n in range(1, 5))


def opened(**config: Any) -> MockDevice:
    plugin = MockDevice()
    plugin.open({"file": str(EXAMPLE), **config})
    return plugin


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "cards.toml"
    file.write_text(text)
    return str(file)


def faults_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as refused:
        opened(file=written(tmp_path, text))
    prefix = f"{tmp_path / 'cards.toml'}:"
    return [fault.removeprefix(prefix) for fault in refused.value.details["faults"]]


def allocator_of(plugin: MockDevice) -> Allocator:
    allocator = Allocator()
    allocator.update("mock", plugin.info, plugin.devices())
    return allocator


def free(allocator: Allocator) -> dict[str, str]:
    return {s.slot: str(s.free) for s in allocator.slots()}


def test_the_example_has_four_gpus_on_two_nodes() -> None:
    devices = opened().devices()

    assert [(d.id, d.numa_node) for d in devices] == [(D01, 0), (D02, 1), (D03, 0), (D04, 1)]
    assert {d.health for d in devices} == {Health.HEALTHY}
    assert devices[0].attributes["cuda_runtime"] == "11.0"
    assert free(allocator_of(opened())) == {"cuda.device": "4", "cuda.shares": "4"}


def test_the_files_formats_are_how_slots_are_shown() -> None:
    slots = {slot.name: slot for slot in opened().info.slots}

    assert slots["cuda.device"].display_unit == "GPU"
    assert slots["cuda.shares"].number_format == NumberFormat(binary=False, round_length=2)
    assert "cuda.device" not in {slot.name for slot in MockDevice.info.slots}


def test_discrete_mode_offers_whole_devices_only() -> None:
    assert free(allocator_of(opened(**{"allocation-mode": "discrete"}))) == {"cuda.device": "4"}


def test_units_say_what_one_share_is() -> None:
    """As in the seeds: ten processors and one gibibyte are one share, and the scarcer counts."""
    allocator = allocator_of(opened(unit_mem=1 << 30, unit_proc=10, quantum_size="0.1"))

    assert free(allocator)["cuda.shares"] == str(Amount(4 * 108, 1))


def test_half_a_gpu_leaves_half_and_takes_its_whole_away() -> None:
    plugin = opened()
    allocator = allocator_of(plugin)
    amounts, faults = parse_request({"cuda.shares": "0.5"}, allocator.catalogue)
    assert faults == []

    (claim,) = allocator.reserve("k1", 1, amounts).claims

    assert free(allocator) == {"cuda.device": "3", "cuda.shares": "3.5"}
    edits = plugin.describe(claim.grants)
    assert edits.env == {
        "BACKENDAI_MOCK_CUDA_DEVICES": D01,
        "BACKENDAI_MOCK_CUDA_DEVICE_COUNT": "1",
        "CUDA_VISIBLE_DEVICES": D01,
        "TF_MIN_GPU_MULTIPROCESSOR_COUNT": "4",
    }
    assert edits.resource_data == {
        "CUDA_GLOBAL_DEVICE_IDS": "0:0",
        "CUDA_RESOURCE_VIRTUALIZED": "1",
        "CUDA_MEMORY_LIMITS": f"0:{20 << 30}",
        "CUDA_PROCESSOR_LIMITS": "0:54",
        "CUDA_RESERVED_MEMORY": str(64 << 20),
    }


def test_whole_and_fraction_in_one_request_exclude_each_other() -> None:
    catalogue = allocator_of(opened()).catalogue

    faults = parse_request({"cuda.device": "1", "cuda.shares": "1"}, catalogue)[1]

    assert "exclude each other" in faults[0].message


def test_several_devices_are_numbered_as_the_container_sees_them() -> None:
    grants = [Grant("cuda.device", d, Amount(1)) for d in (D04, D02)]

    edits = opened().describe(grants)

    assert edits.env["CUDA_VISIBLE_DEVICES"] == f"{D02},{D04}"
    assert edits.resource_data["CUDA_GLOBAL_DEVICE_IDS"] == "0:1,1:3"
    assert edits.resource_data["CUDA_RESOURCE_VIRTUALIZED"] == "0"


def test_a_device_that_left_the_file_is_not_described() -> None:
    with pytest.raises(NotFound, match="gone"):
        opened().describe([Grant("cuda.device", "gone", Amount(1))])


def test_partitions_are_unique_and_draw_on_their_mother(tmp_path: Path) -> None:
    rows = "\n".join(
        f'{{ mother_uuid = "d0{m}", model_name = "{n}", subproc_count = 7, memory_size = "{s}",'
        f" is_mig_device = {mig} }},"
        for m, n, s, mig in (
            (1, "CUDA GPU", "40G", "false"),
            (1, "MIG-20g", "20G", "true"),
            (1, "MIG-20g", "20G", "true"),
            (2, "MIG-5g", "5G", "true"),
        )
    )
    plugin = opened(file=written(tmp_path, f'slot_name = "cuda"\ndevices = [\n{rows}\n]'))
    assert [d.id for d in plugin.devices()] == ["d01", "MIG-d01/0/0", "MIG-d01/1/0", "MIG-d02/0/0"]
    allocator = allocator_of(plugin)

    allocator.reserve("k1", 1, {"cuda.device:20g-mig": Amount(1)})

    left = free(allocator)
    assert left["cuda.device"] == "0"
    assert (left["cuda.device:20g-mig"], left["cuda.device:5g-mig"]) == ("1", "1")
    assert left["cuda.shares"] == "0.5"


def test_another_vendors_cards_have_its_own_variable(tmp_path: Path) -> None:
    plugin = opened(file=written(tmp_path, EXAMPLE.read_text().replace('"cuda"', '"rocm"')))

    env = plugin.describe([Grant("rocm.device", D01, Amount(1))]).env

    assert env["HIP_VISIBLE_DEVICES"] == env["BACKENDAI_MOCK_ROCM_DEVICES"] == D01
    assert not any("CUDA" in name for name in env)


def test_without_a_file_it_is_disabled_and_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "mock-accelerator.toml").write_text(EXAMPLE.read_text())

    with pytest.raises(
        PluginDisabled, match=r"no mock-accelerator\.toml.*home/\.config/agent-core"
    ):
        MockDevice().open({})


def test_a_file_in_the_configuration_directory_or_the_environment_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "home" / ".config" / "backend.ai"
    directory.mkdir(parents=True)
    (directory / "mock-accelerator.toml").write_text(EXAMPLE.read_text())
    plugin = MockDevice()
    plugin.open({})
    assert len(plugin.devices()) == 4

    monkeypatch.setenv("AGENT_MOCK_ACCELERATOR", "/no/such/file")
    with pytest.raises(InvalidConfig, match="AGENT_MOCK_ACCELERATOR names /no/such/file"):
        MockDevice().open({})


def test_every_fault_of_the_file_is_named_with_its_line(tmp_path: Path) -> None:
    text = """slot_name = "Cuda!"
device_plugin_name = "Magic"
[[devices]]
mother_uuid = "d01"
model_name = "CUDA GPU"
numa_node = -1
subproc_count = 0
memory_size = "lots"
[[devices]]
mother_uuid = "d01"
modelname = "CUDA GPU"
is_mig_device = true
is_mig_devices = false
subproc_count = 1
memory_size = "1g"
[formats.device]
number_format = 3
[format]
"""
    found = faults_of(tmp_path, text)

    assert [int(fault.partition(":")[0]) for fault in found] == [1, 2, 6, 7, 8, 9, 11, 13, 17, 18]
    for words in (
        "slot_name is 'Cuda!'",
        "device_plugin_name is 'Magic'",
        "devices[0]: numa_node is -1",
        "devices[0]: subproc_count is 0",
        "devices[0]: memory_size is no size: 'lots'",
        "devices[1]: model_name is missing",
        "unknown key 'modelname'; did you mean 'model_name'?",
        "contradict each other",
        "unknown key 'format'; did you mean 'formats'?",
    ):
        assert any(words in fault for fault in found), words


def test_two_cards_with_one_uuid_are_a_fault(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace(D02, D01)

    assert faults_of(tmp_path, text) == [f"38: devices[1]: mother_uuid {D01!r} is there before"]


@pytest.mark.parametrize("text", ["slot_name = ", 'slot_name = "cuda"', "devices = 3"])
def test_a_file_that_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"cards\.toml"):
        opened(file=written(tmp_path, text))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"allocation-mode": "halves"}, "allocation-mode"),
        ({"quantum": "0.3"}, "1 is not a multiple"),
        ({"quantum": 0}, "quantum is 0"),
        ({"unit-mem": "some"}, "unit-mem"),
        ({"unit-proc": 0}, "unit-proc is zero"),
        ({"unit-mem": "1g", "unit_mem": "2g"}, "given twice"),
        ({"unit-mem": "1000000g"}, "less than one share"),
        ({"unit-mem": "12 parsecs"}, "unit-mem is no size: '12 parsecs'"),
        ({"unit-mem": 5}, "unit-mem is 5, less than a byte for each quantum"),
        ({"quantum": "0.0000001"}, "0.000001 is the finest"),
        ({"reserved-memory": "-1"}, "reserved-memory is no size"),
        ({"files": ["x"]}, "file and files are both given"),
        ({"kinds": {"cuda": {"quantum": "2"}}}, "kinds.cuda quantum is 2"),
    ],
)
def test_a_fault_of_the_section_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        opened(**config)


def test_readings_are_the_same_for_the_same_seed() -> None:
    claim = Claim("k.1.mock", "k", 1, "mock", (Grant("cuda.shares", D01, Amount(5, 1)),))

    def run(seed: int) -> list[list[tuple[str, float]]]:
        plugin = opened(seed=seed)
        cycles = [plugin.measure([Subject("k", (claim,))]) for _ in range(2)]
        return [[(r.metric, r.value) for r in readings] for readings in cycles]

    first = run(1)
    assert first == run(1)
    assert first[0] != first[1]
    assert first != run(2)


def test_a_kernel_is_never_charged_more_than_its_share_of_the_memory() -> None:
    claim = Claim("k.1.mock", "k", 1, "mock", (Grant("cuda.shares", D01, Amount(25, 2)),))
    plugin = opened()

    for _ in range(50):
        held = [r for r in plugin.measure([Subject("k", (claim,))]) if r.kernel_id]
        assert [r.metric for r in held] == ["cuda_mem", "cuda_util"]
        assert held[0].capacity == 10 << 30
        assert 0 < held[0].value <= 10 << 30
