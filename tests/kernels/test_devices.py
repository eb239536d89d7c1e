"""What a plugin says it has, from its reply to the allocator's inventory."""

import asyncio

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Offer
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.kernels.devices import DeviceService
from agent_core.resources.allocator import Allocator


class Learning:
    """A plugin that learns of its slot only by looking at its devices."""

    def __init__(self):
        self.info = PluginInfo("device", "acme")

    async def call(self, method):
        assert method == "devices"
        self.info = PluginInfo("device", "acme", slots=(SlotInfo("acme.device", SlotType.COUNT),))
        offer = Offer("acme.device", Amount(1), {"a": 1})
        return [Device("a", "One", (Counter("a", 1),), (offer,))]


def test_a_slot_that_a_plugin_has_just_found_is_there_at_once():
    allocator = Allocator()
    service = DeviceService({"acme": Learning()}, allocator)

    asyncio.run(service.refresh())

    assert service.faults == {}
    assert [slot.slot for slot in allocator.slots()] == ["acme.device"]
