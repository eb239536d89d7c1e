"""A node with two thousand mock devices: the plugin alone, and an agent that starts with them."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import tracemalloc
from pathlib import Path

import agents
from accel_mock.plugin import MockDevice

from agent_core.client import AgentClient
from agent_core.resources.allocator import Allocator
from agent_core.testing.distributions import fake_distribution

SIZES = (10, 100, 1000, 2000)
TRIES = 5
IDLE = 2.0
PLUGINS = 50
SMALL = """
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.amount import Amount
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl


class Small(ComputeDevice):
    info = PluginInfo("device", "{name}", slots=(SlotInfo("{name}.device", SlotType.COUNT),))

    def devices(self):
        offer = Offer("{name}.device", Amount(1), {{"{name}": 1}})
        return [Device("{name}-0", "Small", counters=(Counter("{name}", 1),), offers=(offer,))]

    def describe(self, grants):
        return ContainerEdits()


@hookimpl
def register_device():
    return Small
"""
FILE = """
slot_name = "cuda"
[[devices]]
count = {count}
mother_uuid = "7d1f3c52-0b7e-4a6c-9f7b-2b8f5a0c9e01"
model_name = "CUDA GPU"
numa_node = [0, 1]
subproc_count = 108
memory_size = "40G"
"""


def alone(count: int) -> dict[str, float]:
    """The plugin alone: milliseconds to open and list, then to list again; bytes of a device."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        file = Path(name) / "cards.toml"
        file.write_text(FILE.format(count=count))

        def opened() -> float:
            began = time.perf_counter()
            plugin = MockDevice()
            plugin.open({"file": str(file)})
            plugin.devices()
            return (time.perf_counter() - began) * 1e3

        took = agents.best(TRIES, opened)
        tracemalloc.start()
        plugin = MockDevice()
        plugin.open({"file": str(file)})
        weight = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
        again = agents.best(TRIES, lambda: timed(plugin))
        return {"devices": count, "open": took, "again": again, "bytes": weight, **taken(plugin)}


def timed(plugin: MockDevice) -> float:
    """Milliseconds to list the devices when nothing has changed."""
    began = time.perf_counter()
    plugin.devices()
    return (time.perf_counter() - began) * 1e3


def taken(plugin: MockDevice) -> dict[str, float]:
    """Milliseconds of the allocator to take the inventory, and to take the same again."""
    allocator, took = Allocator(), list[float]()
    for _ in range(2):
        began = time.perf_counter()
        allocator.update("mock", plugin.info, plugin.devices())
        took.append((time.perf_counter() - began) * 1e3)
    return {"taken": took[0], "taken again": took[1]}


def start(count: int) -> tuple[float, float]:
    """Milliseconds from exec to a socket that listens, and the idle agent's megabytes."""
    with agents.directory() as root:
        cards, config = root / "cards.toml", root / "agent.toml"
        cards.write_text(FILE.format(count=count))
        example = f"{agents.EXAMPLES}/mock-accelerator.toml"
        config.write_text(config.read_text().replace(example, str(cards)))
        began = time.perf_counter()
        with agents.agent(root) as process:
            agents.await_socket(root)
            took = (time.perf_counter() - began) * 1e3
            time.sleep(IDLE)
            return took, agents.resident(process.pid) / 1e6


def crowded() -> tuple[float, int]:
    """Milliseconds until an agent with fifty small device plugins listens, and how many load."""
    with agents.directory() as root, tempfile.TemporaryDirectory(prefix="site-") as name:
        for number in range(PLUGINS):
            fake_distribution(
                Path(name),
                f"accel-small{number}",
                "1.0",
                {"agent_core.device.v1": {f"small{number}": f"accel_small{number}.plugin"}},
                {f"accel_small{number}/plugin.py": SMALL.format(name=f"small{number}")},
                requires=["agent-core>=0.1,<0.2"],
            )
        inline = ", ".join(f'"small{number}"' for number in range(PLUGINS))
        config = root / "agent.toml"
        config.write_text(
            config.read_text().replace("[plugins]", f"[plugins]\ninline = [{inline}]")
        )
        began = time.perf_counter()
        with agents.agent(root, PYTHONPATH=name):
            agents.await_socket(root)
            took = (time.perf_counter() - began) * 1e3
            return took, asyncio.run(_small(root))


async def _small(root: Path) -> int:
    async with AgentClient(str(agents.socket(root))) as client:
        rows = await client.list_plugins()
        return sum(row.name.startswith("small") and row.state == "ready" for row in rows)


def main() -> None:
    """Print the rows."""
    crowd = [crowded() for _ in range(3)]
    points = [alone(count) for count in SIZES]
    many = points[-1]
    started = [start(SIZES[-1]) for _ in range(3)]
    took, memory = min(s for s, _ in started), max(m for _, m in started)
    grown = ", ".join(f"{p['devices']:.0f}: {p['open']:.1f} ms" for p in points)
    rows = [
        agents.row(
            f"start with {SIZES[-1]} mock devices: from exec to ready",
            f"{took:.0f} ms",
            "<= 1000 ms",
            met=took <= 1000,
            note=f"[7 s]; reading and listing them alone: {grown}; the allocator takes them in "
            f"{many['taken']:.0f} ms, and unchanged in {many['taken again']:.1f} ms",
        ),
        agents.row(
            f"memory of an idle agent with {SIZES[-1]} mock devices",
            f"{memory:.0f} MB",
            "<= 110 MB",
            met=memory <= 110,
            note=f"[659 MB]; the plugin's own part is {many['bytes']:.0f} bytes for each device",
        ),
        agents.row(
            f"start with {PLUGINS} device plugins in the agent's own process",
            f"{min(took for took, _ in crowd):.0f} ms",
            "all ready",
            met=all(ready == PLUGINS for _, ready in crowd),
            note="each a distribution of its own that is found, imported, opened and asked",
        ),
    ]
    titled = [
        {"devices": p["devices"], "ms to open": p["open"], "ms to take in": p["taken"]}
        for p in points
    ]
    print(json.dumps({"rows": rows, "growth": {"mock devices": titled}}))


if __name__ == "__main__":
    main()
