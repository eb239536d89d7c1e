"""The allocator: exact, all or nothing, and never twice."""

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Counter, Device, Grant, Health, Offer
from agent_core.contracts.errors import (
    DevicesUnknown,
    InsufficientResource,
    InvalidAmount,
    NotFound,
    PluginContractBroken,
    ResourceRefused,
    UnknownSlot,
    WrongState,
)
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator
from agent_core.resources.placement import Strategy
from agent_core.resources.stockroom import Stockroom

CPU = PluginInfo("device", "cpu", slots=(SlotInfo("cpu", SlotType.COUNT, display_unit="Core"),))
MEM = PluginInfo("device", "mem", slots=(SlotInfo("mem", SlotType.BYTES),))
GPU = PluginInfo(
    "device",
    "acme",
    slots=(
        SlotInfo("acme.device", SlotType.COUNT, display_unit="GPU"),
        SlotInfo("acme.shares", SlotType.COUNT),
        SlotInfo("acme.device:*-mig", SlotType.UNIQUE),
    ),
    exclusive_slots=("acme.*",),
)
MIXED = PluginInfo("device", "acme", slots=GPU.slots)


def core(number: int, node: int = 0) -> Device:
    name = f"cpu{number}"
    return Device(
        name,
        "core",
        (Counter(name, 1),),
        (Offer("cpu", Amount(1), {name: 1}),),
        numa_node=node,
    )


def gpu(name: str, node: int | None = None, health: Health = Health.HEALTHY) -> Device:
    return Device(
        name,
        "ACME One",
        (Counter(name, 100),),
        (
            Offer("acme.device", Amount(1), {name: 100}),
            Offer("acme.shares", Amount(1, 2), {name: 1}),
        ),
        numa_node=node,
        health=health,
        evidence="" if health is Health.HEALTHY else "it smokes",
    )


def memory(size: int = 1 << 30) -> Device:
    return Device("root", "RAM", (Counter("ram", size),), (Offer("mem", Amount(1), {"ram": 1}),))


@pytest.fixture
def node() -> Allocator:
    allocator = Allocator()
    allocator.update("cpu", CPU, [core(n, n // 4) for n in range(8)])
    allocator.update("mem", MEM, [memory()])
    allocator.update("acme", GPU, [gpu("a", 0), gpu("b", 1)])
    return allocator


def amounts(**slots: str) -> dict[str, Amount]:
    return {name.replace("_", "."): Amount.parse(text) for name, text in slots.items()}


def state(allocator: Allocator) -> object:
    return allocator.claims(), allocator.slots(), allocator.devices(), allocator.quarantined()


def free(allocator: Allocator, slot: str) -> str:
    return next(str(s.free) for s in allocator.slots() if s.slot == slot)


def devices_of(claims: tuple[Claim, ...], slot: str) -> dict[str, str]:
    return {g.device_id: str(g.amount) for c in claims for g in c.grants if g.slot == slot}


def test_a_kernel_gets_one_claim_for_each_plugin_and_exactly_what_it_asked(
    node: Allocator,
) -> None:
    decision = node.reserve("k1", 1, amounts(cpu="2", mem="1000", acme_shares="0.5"))

    assert [c.id for c in decision.claims] == ["k1.1.acme", "k1.1.cpu", "k1.1.mem"]
    assert devices_of(decision.claims, "acme.shares") == {"a": "0.5"}
    assert devices_of(decision.claims, "mem") == {"root": "1000"}
    assert sorted(devices_of(decision.claims, "cpu")) == ["cpu0", "cpu1"]
    assert node.claims() == decision.claims
    assert {s.device_id for s in decision.trace if s.taken != "0"} == {"a", "root", "cpu0", "cpu1"}


def test_cores_are_taken_from_the_numa_node_of_the_accelerator(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(acme_device="1"))
    decision = node.reserve("k2", 1, amounts(cpu="3", acme_device="1"))

    assert devices_of(decision.claims, "acme.device") == {"b": "1"}
    assert sorted(devices_of(decision.claims, "cpu")) == ["cpu4", "cpu5", "cpu6"]


def test_cores_alone_stay_on_the_node_that_holds_them_all(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(cpu="1"))

    assert sorted(devices_of(node.reserve("k2", 1, amounts(cpu="4")).claims, "cpu")) == [
        "cpu4",
        "cpu5",
        "cpu6",
        "cpu7",
    ]


def test_a_share_and_a_whole_card_exclude_each_other_on_one_device(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(acme_shares="0.01"))

    assert free(node, "acme.device") == "1"
    assert devices_of(node.reserve("k2", 1, amounts(acme_device="1")).claims, "acme.device") == {
        "b": "1"
    }
    with pytest.raises(InsufficientResource):
        node.reserve("k3", 1, amounts(acme_device="1"))
    assert free(node, "acme.shares") == "0.99"


def test_a_share_goes_to_the_smallest_device_that_holds_it(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(acme_shares="0.3"))
    node.reserve("k2", 1, amounts(acme_shares="0.6"))

    assert devices_of(node.reserve("k3", 1, amounts(acme_shares="0.1")).claims, "acme.shares") == {
        "a": "0.1"
    }


@pytest.mark.parametrize(
    ("strategy", "parts"),
    [(Strategy.FILL, {"a": "1", "b": "0.51"}), (Strategy.EVENLY, {"a": "0.76", "b": "0.75"})],
)
def test_what_no_device_holds_is_split_exactly(strategy: Strategy, parts: dict[str, str]) -> None:
    allocator = Allocator(strategy)
    allocator.update("acme", GPU, [gpu("a"), gpu("b"), gpu("c")])

    claims = allocator.reserve("k1", 1, amounts(acme_shares="1.51")).claims

    assert devices_of(claims, "acme.shares") == parts


def test_whole_cards_choose_before_shares_when_one_request_has_both() -> None:
    allocator = Allocator()
    allocator.update("acme", MIXED, [gpu("a"), gpu("b")])

    claims = allocator.reserve("k1", 1, amounts(acme_shares="1", acme_device="1")).claims

    assert devices_of(claims, "acme.device").keys() | devices_of(claims, "acme.shares").keys() == {
        "a",
        "b",
    }


def test_a_refusal_takes_nothing_and_names_everything_that_is_short(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(cpu="7", acme_device="1"))
    before = state(node)

    with pytest.raises(InsufficientResource) as refused:
        node.reserve("k2", 1, amounts(cpu="2", mem="1", acme_device="2"))

    assert state(node) == before
    faults = refused.value.details["faults"]
    assert {f["details"]["slot"]: f["details"]["free"] for f in faults} == {
        "cpu": "1",
        "acme.device": "1",
    }
    assert refused.value.hint


def test_a_single_refusal_has_slot_requested_free_and_trace(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(acme_device="1"))

    with pytest.raises(InsufficientResource) as refused:
        node.reserve("k2", 1, amounts(acme_device="2"))

    details = refused.value.details
    assert (details["slot"], details["requested"], details["free"]) == ("acme.device", "2", "1")
    assert [(s["device"], s["reason"]) for s in details["trace"]] == [("b", "free"), ("a", "full")]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"acme.divice": Amount(1)}, UnknownSlot),
        ({"cpu": Amount(5, 1)}, InvalidAmount),
        ({"cpu": Amount(0)}, InvalidAmount),
        ({"acme.shares": Amount(5, 3)}, InvalidAmount),
        ({"acme.device": Amount(1), "acme.shares": Amount(1)}, ResourceRefused),
        ({"cpu": Amount(9)}, InsufficientResource),
    ],
)
def test_what_can_never_be_is_refused_before_anything_is_taken(
    node: Allocator, request_: dict[str, Amount], error: type[Exception]
) -> None:
    before = state(node)

    with pytest.raises(error):
        node.reserve("k1", 1, {"mem": Amount(1), **request_})

    assert state(node) == before


def test_releasing_twice_is_an_error_that_changes_nothing(node: Allocator) -> None:
    claims = node.reserve("k1", 1, amounts(cpu="1", mem="5")).claims
    assert [node.release(c.id) for c in claims] == list(claims)
    before = state(node)

    for claim_id in (claims[0].id, "never.1.cpu"):
        with pytest.raises(NotFound):
            node.release(claim_id)

    assert state(node) == before
    assert (free(node, "cpu"), free(node, "mem")) == ("8", str(1 << 30))


def test_the_same_incarnation_cannot_reserve_twice(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(cpu="1"))
    before = state(node)

    with pytest.raises(WrongState):
        node.reserve("k1", 1, amounts(cpu="1", mem="1"))

    assert state(node) == before
    assert node.reserve("k1", 2, amounts(cpu="1")).claims[0].incarnation == 2


def test_a_restored_allocator_is_exactly_the_one_before(node: Allocator) -> None:
    for kernel in ("k1", "k2"):
        node.reserve(kernel, 1, amounts(cpu="2", mem="77", acme_shares="0.75"))
    restored = Allocator()
    for claim in node.claims():
        restored.apply(claim)
    restored.update("acme", GPU, [gpu("b", 1), gpu("a", 0)])
    restored.update("mem", MEM, [memory()])
    restored.update("cpu", CPU, [core(n, n // 4) for n in reversed(range(8))])

    assert state(restored) == state(node)


def test_applying_twice_or_too_much_is_an_error_that_changes_nothing(node: Allocator) -> None:
    claim = node.reserve("k1", 1, amounts(acme_shares="0.5")).claims[0]
    before = state(node)
    over = Claim("k2.1.acme", "k2", 1, "acme", (Grant("acme.device", "a", Amount(1)),))

    with pytest.raises(WrongState):
        node.apply(claim)
    with pytest.raises(InsufficientResource):
        node.apply(over)

    assert state(node) == before


def test_slots_of_a_plugin_that_has_not_reported_are_unknown_and_never_free() -> None:
    allocator = Allocator()
    allocator.update("acme", GPU, None)

    for slot in ("acme.device", "acme.device:10g-mig"):
        with pytest.raises(DevicesUnknown) as refused:
            allocator.reserve("k1", 1, {slot: Amount(1)})
        assert refused.value.retryable
    usage = {s.slot: s for s in allocator.slots()}
    assert sorted(usage) == ["acme.device", "acme.shares"]
    assert not any(s.known or s.free for s in usage.values())


def test_a_claim_restored_on_an_unknown_device_is_quarantined_alone_until_it_appears() -> None:
    allocator = Allocator()
    claim = Claim("k1.1.acme", "k1", 1, "acme", (Grant("acme.device", "a", Amount(1)),))
    allocator.apply(claim)
    assert "k1.1.acme" in allocator.quarantined()

    allocator.update("acme", GPU, [gpu("b")])
    assert "a" in allocator.quarantined()["k1.1.acme"]
    assert devices_of(allocator.reserve("k2", 1, amounts(acme_device="1")).claims, "acme.device")

    allocator.update("acme", GPU, [gpu("a"), gpu("b")])
    assert allocator.quarantined() == {}
    assert free(allocator, "acme.device") == "0"
    allocator.release("k1.1.acme")
    assert free(allocator, "acme.device") == "1"


def test_a_claim_on_a_device_that_is_reported_lost_is_quarantined_until_it_returns() -> None:
    allocator = Allocator()
    allocator.update("acme", GPU, [gpu("a"), gpu("b")])
    allocator.reserve("k1", 1, amounts(acme_device="1"))

    allocator.update("acme", GPU, [gpu("a", health=Health.LOST), gpu("b")])
    assert allocator.quarantined() == {"k1.1.acme": "plugin 'acme' reports a as lost"}
    assert free(allocator, "acme.device") == "1"

    allocator.update("acme", GPU, [gpu("a"), gpu("b")])
    assert allocator.quarantined() == {}


def test_a_device_that_vanishes_and_returns_is_not_given_twice(node: Allocator) -> None:
    node.reserve("k1", 1, amounts(acme_device="1"))

    node.update("acme", GPU, [gpu("b", 1)])
    assert list(node.quarantined()) == ["k1.1.acme"]
    node.update("acme", GPU, None)
    node.forget("acme")
    assert "acme.device" not in {s.slot for s in node.slots()}
    node.update("acme", GPU, [gpu("a", 0), gpu("b", 1)])

    assert free(node, "acme.device") == "1"
    assert devices_of(node.reserve("k2", 1, amounts(acme_device="1")).claims, "acme.device") == {
        "b": "1"
    }


def test_a_claim_in_a_slot_that_its_device_no_longer_offers_blocks_the_device(
    node: Allocator,
) -> None:
    node.reserve("k1", 1, amounts(acme_shares="0.25"))
    node.reserve("k2", 1, amounts(acme_shares="0.25"))
    whole_only = [Device("a", "", (Counter("a", 1),), (Offer("acme.device", Amount(1), {"a": 1}),))]

    node.update("acme", GPU, whole_only)

    assert free(node, "acme.device") == "0"
    assert sorted(node.quarantined()) == ["k1.1.acme", "k2.1.acme"]
    fresh = Allocator()
    fresh.update("acme", GPU, whole_only)
    for claim in node.claims():
        fresh.apply(claim)
    assert free(fresh, "acme.device") == "0"
    for claim in node.claims():
        fresh.release(claim.id)
    assert free(fresh, "acme.device") == "1"


@pytest.mark.parametrize("health", [Health.UNHEALTHY, Health.LOST, Health.UNKNOWN])
def test_a_device_in_doubt_gets_no_new_grants_and_its_claims_stand(
    node: Allocator, health: Health
) -> None:
    claim = node.reserve("k1", 1, amounts(acme_shares="0.5")).claims[0]

    node.update("acme", GPU, [gpu("a", 0, health), gpu("b", 1)])

    assert claim in node.claims()
    usage = next(s for s in node.slots() if s.slot == "acme.shares")
    assert (str(usage.total), str(usage.used), str(usage.free)) == ("2", "0.5", "1")
    with pytest.raises(InsufficientResource) as refused:
        node.reserve("k2", 1, amounts(acme_shares="1.5"))
    assert refused.value.details["withheld"] == {"a": f"{health.value}: it smokes"}


def test_a_degraded_device_is_given_last(node: Allocator) -> None:
    node.update("acme", GPU, [gpu("a", 0, Health.DEGRADED), gpu("b", 1)])

    claims = node.reserve("k1", 1, amounts(acme_device="1")).claims

    assert devices_of(claims, "acme.device") == {"b": "1"}


def test_a_part_of_an_unhealthy_device_is_withheld_too() -> None:
    mother = gpu("m", health=Health.LOST)
    part = Device(
        "m/0",
        "part",
        (Counter("m/0", 1),),
        (Offer("acme.device:10g-mig", Amount(1), {"m/0": 1, "m": 25}),),
        parent="m",
    )
    allocator = Allocator()
    allocator.update("acme", GPU, [mother, part])

    assert free(allocator, "acme.device:10g-mig") == "0"
    allocator.update("acme", GPU, [gpu("m"), part])
    assert free(allocator, "acme.device:10g-mig") == "1"
    allocator.reserve("k1", 1, {"acme.device:10g-mig": Amount(1)})
    assert (free(allocator, "acme.device"), free(allocator, "acme.shares")) == ("0", "0.75")


def test_an_inventory_that_was_taken_is_not_taken_again_until_it_changes() -> None:
    stockroom = Stockroom()
    first, second = [gpu("a"), gpu("b")], [gpu("a")]

    said = [stockroom.update("acme", GPU, devices) for devices in (first, first, list(first))]
    assert said == [True, False, False]

    first.append(gpu("c"))
    said = [stockroom.update("acme", GPU, devices) for devices in (first, second, None, second)]
    assert said == [True, True, True, True]
    stockroom.forget("acme")
    assert stockroom.update("acme", GPU, second)


def test_a_bad_inventory_leaves_the_previous_one(node: Allocator) -> None:
    before = state(node)

    with pytest.raises(PluginContractBroken):
        node.update("acme", GPU, [gpu("a"), gpu("a")])

    assert state(node) == before


def test_two_plugins_with_one_slot_are_both_named_and_the_first_is_kept(node: Allocator) -> None:
    before = state(node)

    with pytest.raises(PluginContractBroken, match=r"'acme' and 'other'.*'acme.device'"):
        node.update("other", GPU, [gpu("z")])

    assert state(node) == before


def test_two_plugins_that_share_a_counter_exclude_each_other(node: Allocator) -> None:
    info = PluginInfo("device", "parts", slots=(SlotInfo("parts.half", SlotType.COUNT),))
    half = Offer("parts.half", Amount(1), {"a": 50})
    node.update("parts", info, [Device("a", "", (Counter("a", 100),), (half,))])
    node.reserve("k1", 1, amounts(parts_half="1"))

    assert free(node, "acme.device") == "1"
    with pytest.raises(PluginContractBroken, match="'a' differently"):
        node.update("parts", info, [Device("a", "", (Counter("a", 99),), (half,))])


def test_the_same_calls_always_give_the_same_devices() -> None:
    def run(order: list[str]) -> list[dict[str, str]]:
        allocator = Allocator()
        allocator.update("acme", GPU, [gpu(name) for name in order])
        requests = ["0.4", "0.7", "1.2", "0.3"]
        return [
            devices_of(allocator.reserve(f"k{i}", 1, amounts(acme_shares=r)).claims, "acme.shares")
            for i, r in enumerate(requests)
        ]

    assert run(["gpu2", "gpu10", "gpu1"]) == run(["gpu10", "gpu1", "gpu2"])


def test_one_decision_costs_the_same_however_many_kernels_run() -> None:
    """Count the looks at counters rather than seconds: a clock would be at the machine's mercy."""
    allocator = Allocator()
    allocator.update("mem", MEM, [memory()])
    looks = 0
    room = allocator._counters.room

    def counting(counter: str) -> int:
        nonlocal looks
        looks += 1
        return room(counter)

    allocator._counters.room = counting  # type: ignore[method-assign]
    costs = []
    for number in range(300):
        looks = 0
        allocator.reserve(f"k{number}", 1, amounts(mem="1"))
        costs.append(looks)

    assert costs[-1] == costs[0]
