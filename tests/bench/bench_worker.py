"""What a plugin's worker process costs: its memory, and a call across the process boundary."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import agents

from agent_core.config.selection import Selection
from agent_core.host.candidates import scan
from agent_core.host.plugin_host import PluginHost
from agent_core.host.tables import PluginTables
from agent_core.testing.distributions import fake_distribution, on_path

CALLS = 3000
PLUGIN = """
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.amount import Amount
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo
from agent_core.hookspecs import hookimpl

class Acme(ComputeDevice):
    info = PluginInfo(kind="device", name="acme")
    def devices(self):
        return [Device(f"acme{n}", "One", (Counter(f"acme{n}", 100),),
                (Offer("acme.device", Amount(1), {f"acme{n}": 100}),)) for n in range(8)]
    def describe(self, grants): return ContainerEdits()
    def prepared(self): return ["k1.acme"]

@hookimpl
def register_device(): return Acme
"""


async def measured(site: Path, *inline: str) -> dict[str, float]:
    """Microseconds of a call by a plugin in a worker or inline, and the worker's memory."""
    host = PluginHost(Selection(inline=inline), PluginTables(), scan([str(site)]))
    host.load()
    await host.open_all()
    try:
        plugin = host.devices()["acme"]
        found = {
            "small": await _median(lambda: plugin.call("prepared")),
            "large": await _median(lambda: plugin.call("devices")),
        }
        worker = host.detail("acme")["worker"]
        return {**found, "resident": worker["resident"] if worker else 0}
    finally:
        await host.close_all()


async def _median(call: object) -> float:
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()  # type: ignore[operator]
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def bare() -> int:
    """Resident bytes of an interpreter that has nothing to do."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        size = agents.resident(process.pid)
        process.stdin.close()
        return size


def main() -> None:
    """Measure and print the rows."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        site = Path(name)
        groups = {"agent_core.device.v1": {"acme": "acme_bench.plugin"}}
        fake_distribution(site, "accel-acme", "1.0", groups, {"acme_bench/plugin.py": PLUGIN})
        with on_path(site):
            runs = [asyncio.run(measured(site)) for _ in range(3)]
            worker = {key: min(run[key] for run in runs) for key in runs[0]}
            inline = asyncio.run(measured(site, "acme"))
    above = (worker["resident"] - bare()) / 1e6
    small = worker["small"]
    note = (
        f"inline, in a thread, {inline['small']:.0f} us; a list of 8 devices "
        f"{worker['large']:.0f} us, inline {inline['large']:.0f} us"
    )
    rows = [
        agents.row(
            "a plugin's worker, resident above bare Python",
            f"{above:.1f} MB",
            "<= 20 MB",
            met=above <= 20,
            note=f"{worker['resident'] / 1e6:.1f} MB in all, with a plugin that imports nothing",
        ),
        agents.row(
            "a call into a worker, from the event loop and back, p50",
            f"{small:.0f} us",
            "<= 150 us",
            met=small <= 150,
            note=note,
        ),
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
