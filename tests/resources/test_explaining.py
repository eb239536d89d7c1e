"""A decision says why, a refusal says what would make it fit, and a plan takes nothing."""

import json

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Offer
from agent_core.contracts.errors import InsufficientResource
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator
from agent_core.resources.trace import KEPT

CPU = PluginInfo("device", "cpu", slots=(SlotInfo("cpu", SlotType.COUNT),))
ACME = PluginInfo("device", "acme", slots=(SlotInfo("acme.*", SlotType.COUNT),))


def core(number):
    name = f"cpu{number}"
    offers = (Offer("cpu", Amount(1), {name: 1}),)
    return Device(name, "", (Counter(name, 1),), offers, numa_node=number % 2)


def card(name, node):
    offers = (
        Offer("acme.device", Amount(1), {name: 10}),
        Offer("acme.shares", Amount(1, 1), {name: 1}),
    )
    return Device(name, "", (Counter(name, 10),), offers, numa_node=node)


@pytest.fixture
def node():
    allocator = Allocator()
    allocator.update("cpu", CPU, [core(n) for n in range(40)])
    allocator.update("acme", ACME, [card("a", 0), card("b", 1)])
    return allocator


def amounts(**slots):
    return {name.replace("_", "."): Amount.parse(text) for name, text in slots.items()}


def remedies(allocator, **slots):
    plan = allocator.plan("new", 1, amounts(**slots))
    assert plan.claims == ()
    return [r for found in plan.remedies.values() for r in found], plan.refusal


def test_a_plan_decides_as_the_reservation_will_and_takes_nothing(node):
    plan = node.plan("k", 1, amounts(cpu="3", acme_device="1"))
    assert node.claims() == ()
    assert node.plan("k", 1, amounts(cpu="3", acme_device="1")).claims == plan.claims
    assert node.reserve("k", 1, amounts(cpu="3", acme_device="1")).claims == plan.claims


def test_cores_follow_the_accelerator_to_its_node_even_where_they_are_fewer():
    allocator = Allocator()
    allocator.update("cpu", CPU, [core(0), core(1)])
    allocator.update("acme", ACME, [card("a", 1), card("b", 1), card("c", 1)])
    decision = allocator.reserve("k", 1, amounts(cpu="1", acme_device="1"))
    assert {g.device_id for c in decision.claims for g in c.grants} == {"a", "cpu1"}
    (step,) = [s for s in decision.trace if s.slot == "cpu" and s.taken != "0"]
    assert step.reason.endswith("on a NUMA node in use")


def test_the_trace_names_candidates_in_the_order_of_preference(node):
    node.reserve("k", 1, amounts(acme_shares="0.3"))
    plan = node.plan("l", 1, amounts(acme_shares="0.5"))
    [slot] = plan.summary()
    assert [(c["device_id"], c["rank"], c["free"], c["taken"]) for c in slot["candidates"]] == [
        ("a", 1, "0.7", "0.5"),
        ("b", 2, "1", "0"),
    ]
    assert slot["free"] == "1.7"
    assert slot["granted"]


def test_what_is_kept_with_a_kernel_is_small_and_stays_true(node):
    decision = node.reserve("k", 1, amounts(cpu="30", acme_shares="0.5"))
    before = decision.summary()
    node.reserve("l", 1, amounts(cpu="10", acme_shares="1"))
    assert decision.summary() == before
    cpu = next(slot for slot in before if slot["slot"] == "cpu")
    assert (len(cpu["candidates"]), cpu["more"]) == (KEPT, 40 - KEPT)
    assert len(json.dumps(before)) < 4096


def test_the_smallest_kernel_that_makes_room_is_named(node):
    node.reserve("big", 1, amounts(acme_device="1"))
    node.reserve("small", 1, amounts(acme_shares="0.6"))
    found, refusal = remedies(node, acme_shares="0.5")
    assert [(r.kind, r.kernels, r.amount) for r in found] == [
        ("end-kernels", ("small",), ""),
        ("ask-less", (), "0.4"),
    ]
    assert isinstance(refusal, InsufficientResource)
    assert refusal.hint == "Free 0.1 more acme.shares, e.g. by ending kernel small, or ask for 0.4."


def test_ending_the_named_kernels_does_make_room(node):
    for kernel in "abcdefgh":
        node.reserve(kernel, 1, amounts(cpu="5"))
    (found, *_), _ = remedies(node, cpu="12")
    assert found.kind == "end-kernels"
    assert len(found.kernels) == 3
    for kernel in found.kernels:
        node.release(f"{kernel}.1.cpu")
    assert node.plan("new", 1, amounts(cpu="12")).refusal is None


def test_two_slots_that_take_from_one_card_are_explained_together(node):
    node.reserve("k", 1, amounts(acme_device="1"))
    found, refusal = remedies(node, acme_device="1", acme_shares="0.5")
    assert [r.kernels for r in found if r.kind == "end-kernels"] == [("k",)]
    assert refusal.details["slot"] == "acme.shares"


def test_what_no_end_of_a_kernel_gives_is_another_nodes():
    allocator = Allocator()
    offers = (Offer("cpu", Amount(1), {"c": 1}, most=1),)
    allocator.update("cpu", CPU, [Device("c", "", (Counter("c", 2),), offers)])
    found, _ = remedies(allocator, cpu="2")
    assert [r.kind for r in found] == ["another-node", "ask-less"]
    assert "at most 1" in found[0].text


def test_a_refusal_looks_at_a_bounded_number_of_kernels():
    allocator = Allocator()
    allocator.update("cpu", CPU, [core(n) for n in range(500)])
    for number in range(500):
        allocator.reserve(f"k{number}", 1, amounts(cpu="1"))
    found, _ = remedies(allocator, cpu="2")
    assert len(found[0].kernels) == 2
    found, _ = remedies(allocator, cpu="300")
    assert found[0].kernels == ()
    assert found[0].text == "free 300 more cpu by ending kernels"
