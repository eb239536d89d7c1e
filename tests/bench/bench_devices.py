"""A node with two thousand mock devices: the plugin alone, and an agent that starts with them."""

from __future__ import annotations

import json
import tempfile
import time
import tracemalloc
from pathlib import Path

import agents
from accel_mock.plugin import MockDevice

from agent_core.resources.allocator import Allocator

SIZES = (10, 100, 1000, 2000)
TRIES = 5
IDLE = 2.0
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


def main() -> None:
    """Print the rows."""
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
    ]
    print(json.dumps({"rows": rows, "growth": points}))


if __name__ == "__main__":
    main()
