"""Masked devices get no new grants, and what runs on them keeps them."""

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Offer
from agent_core.contracts.errors import InsufficientResource
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator
from agent_core.resources.masks import masked

INFO = PluginInfo(
    "device",
    "acme",
    slots=(SlotInfo("acme.device", SlotType.COUNT), SlotInfo("acme.part", SlotType.COUNT)),
)


def card(name, *, parts=0):
    whole = Device(
        name,
        "",
        (Counter(name, 4),),
        (Offer("acme.device", Amount(1), {name: 4}),),
        physical_key=f"pci-{name}",
    )
    inside = [
        Device(f"{name}-{n}", "", (), (Offer("acme.part", Amount(1), {name: 1}),), parent=name)
        for n in range(parts)
    ]
    return [whole, *inside]


def allocator(*globs, devices=()):
    made = Allocator(masks={"acme": globs, "other": ("*",)})
    made.update("acme", INFO, devices or [*card("a"), *card("b")])
    return made


@pytest.mark.parametrize("glob", ["a", "pci-a", "[a]", "pci-a*"])
def test_a_masked_device_is_shown_counted_and_never_given(glob):
    node = allocator(glob)
    [slot] = [s for s in node.slots() if s.slot == "acme.device"]
    assert (str(slot.total), str(slot.free)) == ("2", "1")
    assert [bool(d.withheld) for d in node.devices()] == [True, False]

    (claim,) = node.reserve("k", 1, {"acme.device": Amount(1)}).claims
    assert claim.grants[0].device_id == "b"
    with pytest.raises(InsufficientResource) as refused:
        node.reserve("l", 1, {"acme.device": Amount(2)})
    [remedy] = refused.value.details["remedies"]
    assert remedy["kind"] == "devices"
    assert glob in remedy["text"]


def test_a_claim_on_a_device_that_is_masked_later_stands():
    before = allocator()
    (claim,) = before.reserve("k", 1, {"acme.device": Amount(2)}).claims
    node = allocator("a")
    node.apply(claim)
    assert [str(d.used["acme.device"]) for d in node.devices()] == ["1", "1"]
    assert node.quarantined() == {}
    node.release(claim.id)


def test_parts_go_with_their_card_and_the_whole_card_with_its_part():
    devices = {d.id: d for d in [*card("a", parts=2), *card("b", parts=2)]}
    assert set(masked(devices, ["a"])) == {"a", "a-0", "a-1"}
    assert set(masked(devices, ["b-1"])) == {"b", "b-1"}
    assert masked(devices, []) == {}


def test_a_mask_that_matches_nothing_is_told():
    assert allocator("a", "z*").idle_masks() == [
        "[resource.device-mask] acme: 'z*' matches none of its devices"
    ]
