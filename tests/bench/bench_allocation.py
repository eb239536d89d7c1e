"""One decision of the allocator: a common node, a large one, a refusal, and a full inventory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping

import agents

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import Counter, Device, Offer
from agent_core.contracts.errors import InsufficientResource
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.resources.allocator import Allocator

CPU = PluginInfo("device", "cpu", slots=(SlotInfo("cpu", SlotType.COUNT),))
MEM = PluginInfo("device", "mem", slots=(SlotInfo("mem", SlotType.BYTES),))
CUDA = PluginInfo("device", "cuda", slots=(SlotInfo("cuda.*", SlotType.COUNT),))
CARDS = 8
TIMES = 300
REQUEST = {"cpu": Amount(4), "mem": Amount(1 << 30), "cuda.shares": Amount(5, 1)}


def node(cores: int) -> Allocator:
    """A node of two NUMA nodes, eight cards and so many cores."""
    allocator = Allocator()
    allocator.update("cpu", CPU, [_core(n, n * 2 // cores) for n in range(cores)])
    memory = Offer("mem", Amount(1), {"mem": 1})
    allocator.update("mem", MEM, [Device("root", "", (Counter("mem", 1 << 40),), (memory,))])
    allocator.update("cuda", CUDA, [_card(n, n * 2 // CARDS) for n in range(CARDS)])
    return allocator


def _core(number: int, numa_node: int) -> Device:
    name = f"cpu{number}"
    offers = (Offer("cpu", Amount(1), {name: 1}),)
    return Device(name, "", (Counter(name, 1),), offers, numa_node=numa_node)


def _card(number: int, numa_node: int) -> Device:
    name = f"gpu{number}"
    offers = (
        Offer("cuda.device", Amount(1), {name: 100}),
        Offer("cuda.shares", Amount(1, 2), {name: 1}),
    )
    return Device(name, "", (Counter(name, 100),), offers, numa_node=numa_node)


def decision(allocator: Allocator, request: Mapping[str, Amount]) -> float:
    """Milliseconds of one reservation, in the median; each is given back, beside some that stay."""
    for number in range(CARDS):
        allocator.reserve(f"stays{number}", 1, REQUEST)
    taken = []
    for number in range(TIMES):
        began = time.perf_counter()
        claims = allocator.reserve(f"k{number}", 1, request).claims
        taken.append(time.perf_counter() - began)
        for claim in claims:
            allocator.release(claim.id)
    return statistics.median(taken) * 1e3


def refusal() -> float:
    """Milliseconds of a refusal with what would make it fit, on a full node."""
    allocator = node(64)
    for number in range(16):
        allocator.reserve(f"k{number}", 1, REQUEST)
    return timed(lambda: refused(allocator))


def refused(allocator: Allocator) -> None:
    """Ask for what is not there."""
    try:
        allocator.reserve("more", 1, REQUEST)
    except InsufficientResource:
        return
    raise SystemExit("a full node gave more")


def timed(work: Callable[[], None]) -> float:
    """Milliseconds of some work, in the median."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def main() -> None:
    """Print the rows."""
    common, denied = decision(node(64), REQUEST), refusal()
    large = decision(node(384), {**REQUEST, "cpu": Amount(48)})
    rows = [
        agents.row(
            "allocation: 8 devices + 64 cores (median)",
            f"{common:.2f} ms",
            "<= 0.5 ms",
            met=common <= 0.5,
            note="half a card, 4 cores and memory, beside eight kernels",
        ),
        agents.row(
            "allocation: 8 devices + 384 cores (median)",
            f"{large:.2f} ms",
            "<= 5 ms",
            met=large <= 5,
            note="half a card, 48 cores and memory, beside eight kernels",
        ),
        agents.row(
            "allocation refused, with what would make it fit (median)",
            f"{denied:.2f} ms",
            "<= 5 ms",
            met=denied <= 5,
            note="8 devices + 64 cores, sixteen kernels, two slots short",
        ),
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
