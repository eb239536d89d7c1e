"""Masks, overcommit, plans and explanations on a node of one's own."""

import pytest

from agent_core.contracts.errors import InsufficientResource, InvalidAmount

SETTINGS = """
[resource.device-mask]
mock = ["*2d03", "no-such-*"]
[plugin.cpu]
cores = [0, 1]
overcommit = "1.5"
"""


def test_a_kernel_can_be_planned_and_is_explained_also_after_a_restart(node):
    node.start()
    spec = {"image": "python", "slots": {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"}}
    plan = node.ask("plan_kernel", {**spec, "kernel_id": "k1"})
    assert plan.granted
    assert node.ask("list_kernels") == []

    node.create(**spec, kernel_id="k1")
    told = node.ask("explain_kernel", "k1")
    assert sorted(told.grants, key=str) == sorted(plan.grants, key=str)
    assert {slot.slot for slot in told.slots} == {"cpu", "mem", "cuda.shares"}
    assert all(slot.granted and slot.candidates for slot in told.slots)

    node.end()
    node.start()
    assert node.ask("explain_kernel", "k1") == told

    refused = node.ask("plan_kernel", {"image": "python", "slots": {"cuda.shares": "4"}})
    assert not refused.granted
    [slot] = refused.slots
    assert [r.kernels for r in slot.remedies if r.kind == "end-kernels"] == [("k1",)]
    with pytest.raises(InvalidAmount):
        node.ask("plan_kernel", {"image": "python", "slots": {"cpu": "0.5"}})

    node.destroy("k1")
    assert node.ask("explain_kernel", "k1").notes == ("it has ended and holds nothing",)


def cores_of(node, kernel):
    printed = node.run(kernel, "import os; print(*os.sched_getaffinity(0))")[0]
    return printed.split()


def test_kernels_share_the_cores_of_the_pool_and_whole_ones_stay_alone(node):
    node.configure("\n[plugin.cpu]\ncores = [0, 1]\n")
    node.start(AGENT_RESOURCE__SHARED_CPU="1")
    (cpu,) = [row for row in node.ask("list_slots") if row.slot == "cpu"]
    assert (cpu.quantum, cpu.total, cpu.free) == ("0.001", "2", "1")

    halves = [node.create(slots={"cpu": "0.5", "mem": "64m"}) for _ in range(2)]
    whole = node.create(slots={"cpu": "1", "mem": "64m"})
    assert [cores_of(node, kernel) for kernel in (*halves, whole)] == [["0"], ["0"], ["1"]]
    for asked in ("0.001", "1"):
        with pytest.raises(InsufficientResource, match="0 free of 1"):
            node.create(wait=False, slots={"cpu": asked, "mem": "64m"})

    node.end()
    node.start(AGENT_RESOURCE__SHARED_CPU="1")
    (told,) = [g for g in node.ask("explain_kernel", halves[0]).grants if g.slot == "cpu"]
    assert (told.device_id, told.amount) == ("cpu-pool", "0.5")
    node.destroy(halves[0])
    halves[0] = node.create(slots={"cpu": "0.500", "mem": "64m"})
    for kernel in (*halves, whole):
        node.destroy(kernel)
    assert node.json("leaks") == []


def test_masked_devices_and_overcommitted_cores_mean_what_the_configuration_says(node):
    node.configure(SETTINGS)
    node.start()
    slots = {row.slot: row for row in node.ask("list_slots")}
    assert (slots["cpu"].total, slots["cpu"].free) == ("3", "2")
    assert (slots["cuda.device"].total, slots["cuda.device"].free) == ("4", "3")
    withheld = [row for row in node.ask("list_devices") if row.withheld]
    assert [row.id[-4:] for row in withheld] == ["2d03"]
    assert any("'no-such-*' matches none" in w for w in node.ask("get_status").warnings)

    with pytest.raises(InsufficientResource) as refused:
        node.create(wait=False, slots={"cuda.device": "4"})
    assert "device-mask" in refused.value.hint
    first = node.create(slots={"cpu": "2", "mem": "64m"})
    second = node.create(slots={"cpu": "1", "mem": "64m"})
    cores = [g.device_id for g in node.ask("explain_kernel", first).grants if g.slot == "cpu"]
    assert sorted(cores) == ["cpu0", "cpu1"]
    plan = node.ask("plan_kernel", {"image": "python", "slots": {"cpu": "1"}})
    assert not plan.granted
    for kernel in (first, second):
        node.destroy(kernel)
