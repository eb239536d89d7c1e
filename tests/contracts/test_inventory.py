"""Inventories: garbage is refused as a whole, with all its faults."""

from dataclasses import replace
from typing import Any

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Offer
from agent_core.contracts.errors import PluginContractBroken
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.contracts.inventory import MAX_DEVICES, check_inventory

INFO = PluginInfo(
    "device",
    "acme",
    slots=(
        SlotInfo("acme.device", SlotType.COUNT),
        SlotInfo("acme.mem", SlotType.BYTES),
        SlotInfo("acme.device:*-mig", SlotType.UNIQUE),
    ),
)
ONE = Amount(1)
GOOD = Device(
    "a", "ACME", (Counter("a", 4),), (Offer("acme.device", Amount(1), {"a": 4}),), numa_node=0
)


def part(**changes: Any) -> Device:
    offer = Offer("acme.device:1g-mig", Amount(1), {"a": 1, "a/0": 1})
    return replace(Device("a/0", "part", (Counter("a/0", 1),), (offer,), parent="a"), **changes)


def offering(slot: str, quantum: Any = ONE, draws: Any = None) -> Device:
    return replace(GOOD, offers=(Offer(slot, quantum, {"a": 1} if draws is None else draws),))


def test_a_good_inventory_passes_unchanged() -> None:
    assert check_inventory("acme", INFO, [GOOD, part()]) == (GOOD, part())


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("abc", "not a sequence"),
        (None, "not a sequence"),
        ([object()], "item 0 is a object"),
        ([GOOD, GOOD], "device 'a' is there 2 times"),
        ([GOOD, replace(GOOD, id="b")], "counter 'a' is there 2 times"),
        ([replace(GOOD, id="")], "an id is a short printable text"),
        ([replace(GOOD, id=3)], "an id is a short printable text"),  # type: ignore[arg-type]
        ([replace(GOOD, id="x" * 5000)], "an id is a short printable text"),
        ([replace(GOOD, counters=(Counter("a", 0),))], "capacity 0"),
        ([replace(GOOD, counters=(Counter("a", -5),))], "capacity -5"),
        ([replace(GOOD, counters=(Counter("a", float("nan")),))], "capacity nan"),  # type: ignore[arg-type]
        ([replace(GOOD, counters=(Counter("a", True),))], "capacity True"),
        ([replace(GOOD, counters=(Counter("a", 1 << 80),))], "capacity"),
        ([replace(GOOD, counters="aa")], "counters is not a tuple"),  # type: ignore[arg-type]
        ([replace(GOOD, offers=(GOOD.counters[0],))], "offers holds a Counter"),  # type: ignore[arg-type]
        ([replace(GOOD, numa_node=-1)], "unknown is None"),
        ([replace(GOOD, health="fine")], "health 'fine'"),  # type: ignore[arg-type]
        ([replace(GOOD, attributes={"a": 1})], "attributes"),  # type: ignore[dict-item]
        ([replace(GOOD, parent="zz")], "parent 'zz', which is not there"),
        ([replace(GOOD, parent="a")], "ancestor of itself"),
        ([offering("acme.wrong")], "not among the slots"),
        ([offering("acme.device", Amount(0))], "quantum"),
        ([offering("acme.device", 1)], "quantum"),
        ([offering("acme.device", draws={})], "draws from no counter"),
        ([offering("acme.device", draws={"zz": 1})], "no counter of it or its parents"),
        ([offering("acme.device", draws={"a": 5})], "draws 5 from 'a', which holds 4"),
        ([offering("acme.device", draws={"a": 0})], "draws 0"),
        ([offering("acme.device:1g-mig", Amount(2))], "unique"),
        ([offering("acme.mem", Amount(5, 1))], "in bytes"),
        ([replace(GOOD, offers=GOOD.offers * 2)], "is there twice"),
        ([GOOD, part(parent=None)], "no counter of it or its parents"),
    ],
)
def test_a_fault_is_refused_with_its_reason(devices: object, words: str) -> None:
    with pytest.raises(PluginContractBroken) as refused:
        check_inventory("acme", INFO, devices)

    assert any(words in fault for fault in refused.value.details["faults"])
    assert refused.value.plugin == "acme"


def test_all_faults_are_named_at_once() -> None:
    bad = [replace(GOOD, numa_node=-1), replace(GOOD, id="b", counters=(Counter("b", 0),))]

    with pytest.raises(PluginContractBroken) as refused:
        check_inventory("acme", INFO, bad)

    assert len(refused.value.details["faults"]) == 2


def with_quantum(name: str, quantum: Amount) -> Device:
    return Device(name, "", (Counter(name, 4),), (Offer("acme.device", quantum, {name: 1}),))


def test_quanta_of_one_slot_are_multiples_of_each_other() -> None:
    fine = [with_quantum("b", Amount(5, 1)), with_quantum("c", Amount(2))]
    assert check_inventory("acme", INFO, [GOOD, *fine]) == (GOOD, *fine)

    with pytest.raises(PluginContractBroken, match=r"no multiple of a finer one \(0.3, 1\)"):
        check_inventory("acme", INFO, [GOOD, with_quantum("b", Amount(3, 1))])


def test_an_absurd_number_of_devices_is_refused_without_looking_at_them() -> None:
    with pytest.raises(PluginContractBroken, match=f"{MAX_DEVICES} is the most"):
        check_inventory("acme", INFO, [object()] * 1_000_000)


def test_a_flood_of_faults_is_cut_short() -> None:
    with pytest.raises(PluginContractBroken) as refused:
        check_inventory("acme", INFO, [None] * 1000)

    assert refused.value.details["faults"][-1] == "and 980 more"
