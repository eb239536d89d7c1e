"""A claim that a kernel really has stands, even where its device shrank meanwhile."""

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Claim, Counter, Device, Grant, Offer
from agent_core.contracts.errors import InsufficientResource, WrongState
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator

INFO = PluginInfo(kind="device", name="mem", slots=(SlotInfo("mem", SlotType.BYTES),))


def inventory(capacity):
    offer = Offer("mem", Amount(1), {"mem": 1})
    return [Device("root", "memory", counters=(Counter("mem", capacity),), offers=(offer,))]


def claim(name, amount):
    return Claim(name, name, 1, "mem", (Grant("mem", "root", Amount(amount)),))


def test_what_no_longer_fits_is_held_and_given_to_nobody():
    allocator = Allocator()
    allocator.update("mem", INFO, inventory(100))
    assert allocator.restore(claim("a", 60)) == ""
    assert "mem" in allocator.restore(claim("b", 60))
    with pytest.raises(InsufficientResource):
        allocator.reserve("k", 1, {"mem": Amount(1)})
    allocator.release("a")
    with pytest.raises(InsufficientResource):
        allocator.reserve("k", 1, {"mem": Amount(41)})
    assert allocator.reserve("k", 1, {"mem": Amount(40)}).claims
    [usage] = allocator.slots()
    assert (str(usage.used), str(usage.free)) == ("100", "0")


def test_a_claim_is_restored_once():
    allocator = Allocator()
    allocator.update("mem", INFO, inventory(100))
    allocator.restore(claim("a", 60))
    with pytest.raises(WrongState):
        allocator.restore(claim("a", 60))
    [usage] = allocator.slots()
    assert str(usage.used) == "60"
