"""mock: what changes while it is open, by a script and by an edit of its files."""

from pathlib import Path
from typing import Any

import pytest
from accel_mock.model import Step, Verb
from accel_mock.script import play
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Device, Grant, Health, Subject
from agent_core.contracts.errors import InsufficientResource
from agent_core.contracts.inventory import check_inventory
from agent_core.resources.allocator import Allocator

CUDA = 'slot_name = "cuda"\n'
EVIDENCE = "XID 79: the GPU has fallen off the bus"


def health(devices: Any) -> dict[str, str]:
    return {d.id: d.health.value for d in devices}


def refreshed(allocator: Allocator, plugin: Any) -> None:
    devices = plugin.devices()
    check_inventory("mock", plugin.info, devices)
    allocator.update("mock", plugin.info, devices)


# ---- scripts -------------------------------------------------------------------------------------


def test_a_script_makes_a_device_ill_and_well_again(bench: Any, card: Any) -> None:
    script = f"""
[[script]]
at = 20
device = "d1"
health = "healthy"
[[script]]
at = 5.0
device = "d1"
health = "UNHEALTHY"
evidence = "{EVIDENCE}"
"""
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + script)
    bench.open()

    seen = [health(bench.at(seconds))["d1"] for seconds in (0, 4.9, 5, 19, 20, 1000)]

    assert seen == ["healthy", "healthy", "unhealthy", "unhealthy", "healthy", "healthy"]
    bench.at(5)
    assert bench.now("d1").evidence == EVIDENCE
    assert bench.now("d2").health is Health.HEALTHY


def test_a_script_unplugs_a_device_and_plugs_it_in_again(bench: Any, card: Any) -> None:
    script = '[[script]]\nat = 5\nremove = "d1"\n[[script]]\nat = 9\nadd = "d1"\n'
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + script)
    plugin = bench.open()

    assert health(bench.at(5)) == {"d1": "lost", "d2": "healthy"}
    assert bench.now("d1").evidence == "its script has unplugged it"
    assert {r.device_id for r in plugin.measure(())} == {"d2"}
    assert health(bench.at(9)) == {"d1": "healthy", "d2": "healthy"}


def test_a_script_plugs_in_a_device_that_was_not_there(bench: Any, card: Any) -> None:
    script = """
[[script]]
at = 5
add = { mother_uuid = "d1", model_name = "MIG-5g", subproc_count = 7, memory_size = "5g", \
is_mig_device = true, count = 2 }
"""
    bench.write("cards.toml", CUDA + card("d1") + script)
    bench.open()
    assert health(bench.at(4)) == {"d1": "healthy"}

    assert [d.id for d in bench.at(5)] == ["d1", "MIG-d1/0/0", "MIG-d1/1/0"]


def test_a_device_that_was_never_plugged_in_is_not_missed(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + '[[script]]\nremove = "d2"\n')

    assert health(bench.open().devices()) == {"d1": "healthy"}


def test_links_are_made_and_cut(bench: Any, card: Any) -> None:
    links = """
[[links]]
devices = ["d1", "d2", "d3"]
kind = "nv12"
[[script]]
at = 5
unlink = ["d1", "d2"]
[[script]]
at = 6
link = ["d1", "d3"]
kind = "pix"
[[script]]
at = 7
remove = "d2"
"""
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + card("d3") + links)
    bench.open()

    assert bench.now("d1").links == {"d2": "nv12", "d3": "nv12"}
    bench.at(5)
    assert bench.now("d1").links == {"d3": "nv12"}
    bench.at(6)
    assert bench.now("d3").links == {"d1": "pix", "d2": "nv12"}
    bench.at(7)
    assert bench.now("d3").links == {"d1": "pix"}


def test_the_partitions_of_an_unplugged_card_are_not_given(bench: Any, card: Any) -> None:
    part = card("d1", model_name='"MIG-5g"', memory_size='"5g"', is_mig_device="true")
    bench.write("cards.toml", CUDA + card("d1") + part + '[[script]]\nat = 5\nremove = "d1"\n')
    plugin, allocator = bench.open(), Allocator()
    bench.at(5)
    refreshed(allocator, plugin)

    with pytest.raises(InsufficientResource) as refused:
        allocator.reserve("k", 1, {"cuda.device:5g-mig": Amount(1)})

    assert "its parent d1 is lost" in str(refused.value.details)


def test_a_script_of_its_own_file_is_about_the_devices_of_all_files(bench: Any, card: Any) -> None:
    bench.write("cuda.toml", CUDA + card("c1"))
    bench.write("rocm.toml", 'slot_name = "rocm"\n' + card("r1"))
    day = bench.write("day.toml", '[[script]]\nremove = "r1"\nat = 3\n')
    bench.open("cuda.toml", "rocm.toml", script=str(day))
    assert health(bench.at(3)) == {"c1": "healthy", "r1": "lost"}

    bench.write("day.toml", '[[script]]\nremove = "r9"\n')
    assert bench.faults("cuda.toml", "rocm.toml", script=str(day)) == [
        "day.toml:1: script[0]: is about 'r9', which is not there"
    ]
    bench.write("cuda.toml", CUDA)
    assert bench.faults("cuda.toml", "rocm.toml", script=str(day)) == [
        "cuda.toml:1: devices is not a list of at least one device"
    ]
    bench.write("cuda.toml", CUDA + card("c1"))
    bench.write("day.toml", "[[script]]\nadd = { mother_uuid = 'x' }\n[devices]\n")
    assert bench.faults("cuda.toml", script=str(day)) == [
        "day.toml:2: script[0].add: declares a device; that has to be in the file of its kind",
        "day.toml:3: the file has the unknown key 'devices'",
    ]


def test_an_edit_that_takes_what_the_script_is_about_has_no_effect(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1") + card("d2"))
    day = bench.write("day.toml", '[[script]]\nat = 9\nremove = "d1"\n')
    plugin = bench.open(script=str(day))

    bench.write("cards.toml", CUDA + card("d2"))
    assert health(plugin.devices()) == {"d1": "degraded", "d2": "degraded"}
    assert "day.toml:1: script[0]: is about 'd1'" in bench.now("d1").evidence

    bench.write("day.toml", "")
    assert health(plugin.devices()) == {"d1": "lost", "d2": "healthy"}


def test_drawn_times_are_the_same_for_the_same_seed(bench: Any, card: Any) -> None:
    script = '[[script]]\nat = [0, 1000]\nremove = "d1"\n'
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + script)

    def moment(seed: int) -> int:
        bench.open(seed=seed)
        return next(t for t in range(1001) if health(bench.at(t)).get("d1") != "healthy")

    assert moment(1) == moment(1)
    assert len({moment(seed) for seed in range(5)}) > 1


def test_a_step_that_happens_again_and_again_flaps(bench: Any, card: Any) -> None:
    script = """
[[script]]
at = 5
every = 10
device = "d1"
health = "degraded"
evidence = "hot"
[[script]]
at = 10
every = 10
device = "d1"
health = "healthy"
"""
    bench.write("cards.toml", CUDA + card("d1") + script)
    bench.open()

    seen = [health(bench.at(t))["d1"][0] for t in range(0, 40, 5)]

    assert seen == ["h", "d", "h", "d", "h", "d", "h", "d"]


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.floats(0, 50), st.sampled_from([Verb.REMOVE, Verb.ADD])),
        max_size=8,
    ),
    st.lists(st.floats(0, 200), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_what_is_so_depends_on_the_time_alone(
    drawn: list[tuple[float, float, Verb]], times: list[float], seed: int
) -> None:
    steps = [Step(at, at + 3, every, verb, ("d",)) for at, every, verb in drawn]

    asked = {t: play(steps, (), t, seed) for t in times}

    assert {t: play(steps, (), t, seed) for t in reversed(times)} == asked
    assert all(scene.absent <= {"d"} for scene in asked.values())


# ---- edits ---------------------------------------------------------------------------------------


def test_an_edited_file_is_seen_at_the_next_look(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1") + card("d2"))
    plugin = bench.open()
    before = plugin.devices()
    assert plugin.devices() is before

    sick = card("d1", health='"Unhealthy"', evidence=f'"{EVIDENCE}"')
    bench.write("cards.toml", CUDA + sick + card("d3", model_name='"MIG-5g"', is_mig_device="true"))

    assert health(plugin.devices()) == {
        "d1": "unhealthy", "d2": "lost", "MIG-d3/0/0": "healthy",
    }  # fmt: skip
    assert bench.now("d1").evidence == EVIDENCE
    assert bench.now("d2").evidence == f"it is not in {bench.directory}/cards.toml any more"
    check_inventory("mock", plugin.info, plugin.devices())
    assert "cuda.device:5g-mig" in {slot.name for slot in plugin.info.slots}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("slot_name =", "cards.toml:1: is not TOML: Invalid value"),
        ('slot_name = "cuda"\ndevices = 3', "cards.toml:2: devices is not a list of tables"),
        (None, "cards.toml: is not there"),
    ],
)
def test_an_edit_with_faults_changes_nothing_and_is_told_on_every_device(
    text: str | None, why: str, bench: Any, card: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good = CUDA + card("d1") + card("d2", health='"unhealthy"', evidence='"broken"')
    file = bench.write("cards.toml", good)
    bench.write("rocm.toml", 'slot_name = "rocm"\n' + card("r1"))
    plugin = bench.open("cards.toml", "rocm.toml")

    if text is None:
        file.unlink()
    else:
        bench.write("cards.toml", text)

    for _ in range(2):
        assert health(plugin.devices()) == {"d1": "degraded", "d2": "unhealthy", "r1": "healthy"}
    assert bench.now("d1").evidence.startswith(f"an edit has no effect: {bench.directory}/{why}")
    assert bench.now("d2").evidence == "broken"
    assert {r.device_id for r in plugin.measure(())} == {"d1", "d2", "r1"}
    assert caplog.text.count("an edit has no effect, what was there before stands") == 1

    bench.write("cards.toml", good)
    assert health(plugin.devices()) == {"d1": "healthy", "d2": "unhealthy", "r1": "healthy"}


def test_an_edit_that_clashes_with_another_file_has_no_effect(bench: Any, card: Any) -> None:
    bench.write("a.toml", CUDA + card("d1"))
    bench.write("b.toml", 'slot_name = "rocm"\n' + card("d2"))
    plugin = bench.open("a.toml", "b.toml")

    bench.write("b.toml", CUDA + card("d2"))

    assert health(plugin.devices()) == {"d1": "healthy", "d2": "degraded"}
    assert "both have the slot_name 'cuda'" in bench.now("d2").evidence
    assert bench.now("d2").offers[0].slot == "rocm.device"

    bench.write("a.toml", 'slot_name = "tpu"\n' + card("d1"))
    assert health(plugin.devices()) == {"d1": "healthy", "d2": "healthy"}
    assert bench.now("d2").offers[0].slot == "cuda.device"


def test_a_share_of_a_device_that_was_unplugged_stands_and_is_given_back_once(
    bench: Any, card: Any
) -> None:
    bench.write("cards.toml", CUDA + card("d1"))
    plugin, allocator = bench.open(), Allocator()
    refreshed(allocator, plugin)
    (claim,) = allocator.reserve("k", 1, {"cuda.shares": Amount(5, 1)}).claims

    bench.write("cards.toml", CUDA + card("d2"))
    refreshed(allocator, plugin)

    assert {s.slot: str(s.free) for s in allocator.slots()} == {
        "cuda.device": "1", "cuda.shares": "1",
    }  # fmt: skip
    assert plugin.describe(claim.grants).env["CUDA_VISIBLE_DEVICES"] == "d1"
    assert [r for r in plugin.measure([Subject("k", (claim,))]) if r.kernel_id] == []

    bench.write("cards.toml", CUDA + card("d2") + card("d1"))
    refreshed(allocator, plugin)
    assert {s.slot: str(s.free) for s in allocator.slots()}["cuda.shares"] == "1.5"
    allocator.release(claim.id)
    assert {s.slot: str(s.free) for s in allocator.slots()}["cuda.shares"] == "2"


def test_opening_again_forgets_what_was_lost(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1"))
    plugin = bench.open()
    bench.write("cards.toml", CUDA + card("d2"))
    assert health(plugin.devices()) == {"d1": "lost", "d2": "healthy"}

    plugin.close()
    assert list(plugin.devices()) == []
    assert health(bench.open().devices()) == {"d2": "healthy"}


def test_what_has_gone_never_makes_the_inventory_too_large(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1", count="4000"))
    plugin = bench.open()
    bench.write("cards.toml", CUDA + card("d2", count="4000"))

    devices = check_inventory("mock", plugin.info, plugin.devices())

    assert [d.health for d in devices].count(Health.HEALTHY) == 4000


def test_a_link_to_a_masked_device_is_no_link(bench: Any, card: Any) -> None:
    links = '[[links]]\ndevices = ["d1", "d2", "d3"]\n'
    bench.write("cards.toml", CUDA + card("d1") + card("d2") + card("d3") + links)
    bench.open(device_mask="d2")

    assert bench.now("d1").links == {"d3": "nvlink"}


def test_a_kernels_readings_are_of_its_own_part(bench: Any, card: Any) -> None:
    bench.write("cards.toml", CUDA + card("d1") + card("d2"))
    plugin = bench.open(unit_mem="4g", unit_proc=10)

    def subject(kernel: str, amount: Amount) -> Subject:
        grant = Grant("cuda.shares", "d1", amount)
        return Subject(kernel, (Claim(f"{kernel}.1.mock", kernel, 1, "mock", (grant,)),))

    for _ in range(30):
        readings = plugin.measure([subject("k1", Amount(1)), subject("k2", Amount(85, 1))])
        of = {(r.metric, r.kernel_id or r.device_id): r for r in readings}
        first, second = of["cuda_mem", "k1"], of["cuda_mem", "k2"]
        assert (first.capacity, second.capacity) == (4 << 30, 34 << 30)
        assert 0 < first.value <= 4 << 30
        assert first.value + second.value <= of["cuda_mem", "d1"].value <= 40 << 30
        assert of["cuda_util", "d1"].value <= 1.0


def test_devices_are_plain_and_their_paths_are_not_read_twice(
    bench: Any, card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("cards.toml", CUDA + card("d1"))
    plugin = bench.open()
    monkeypatch.setattr(Path, "open", None)

    assert [isinstance(device, Device) for device in plugin.devices()] == [True]
