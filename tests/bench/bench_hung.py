"""RPC while one plugin hangs in C with the interpreter's lock held, beside an agent without."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import agents

from agent_core.client import AgentClient
from agent_core.testing.distributions import fake_distribution

ROUNDS, PINGS = 9, 1500
PLUGIN = """
import ctypes
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo
from agent_core.hookspecs import hookimpl

class Acme(ComputeDevice):
    info = PluginInfo(kind="device", name="acme", deadlines={"measure": 3600})
    def open(self, config): self.hangs = config["hangs"]
    def devices(self):
        offers = (Offer("acme.device", Amount(1), {"a": 1}),)
        return [Device("a", "One", (Counter("a", 1),), offers)]
    def describe(self, grants): return ContainerEdits()
    def measure(self, subjects):
        if self.hangs: ctypes.PyDLL(None).sleep(3600)  # keeps the interpreter's lock
        return []

@hookimpl
def register_device(): return Acme
"""


async def p99(client: AgentClient) -> float:
    """Milliseconds that 99 of 100 pings stay below."""
    taken = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await client.ping("x" * 8)
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.quantiles(taken, n=100)[98]


async def compare(hung: Path, well: Path) -> tuple[float, float]:
    """Measure both agents in turns, so that a busy machine is busy for both."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AgentClient(str(agents.socket(root))))
            for root in (hung, well)
        ]
        kernels = [await _create(client) for client in clients]
        asking = asyncio.ensure_future(clients[0].get_kernel_status(kernels[0]))
        await clients[1].get_kernel_status(kernels[1])
        for client in clients:
            await p99(client)
        rounds = [[await p99(client) for client in clients] for _ in range(ROUNDS)]
        assert not asking.done(), "the plugin does not hang"
        asking.cancel()
        for client, kernel in zip(clients, kernels, strict=True):
            await client.destroy_kernel(kernel)
            await client.wait_kernel(kernel, ["TERMINATED"], timeout=30)
    first, second = (statistics.median(column) for column in zip(*rounds, strict=True))
    return first, second


async def _create(client: AgentClient) -> str:
    created = await client.create_kernel({"image": "python", "slots": {"mem": "1m"}})
    await client.wait_kernel(created.kernel_id, ["RUNNING"], timeout=30)
    return created.kernel_id


def main() -> None:
    """Print the row."""
    with agents.directory() as hung, agents.directory() as well:
        for root, hangs in ((hung, "true"), (well, "false")):
            with (root / "agent.toml").open("a") as file:
                file.write(f"[plugin.acme]\nhangs = {hangs}\n")
        site = hung / "site"
        groups = {"agent_core.device.v1": {"acme": "acme_hung.plugin"}}
        fake_distribution(site, "accel-acme", "1", groups, {"acme_hung/plugin.py": PLUGIN})
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        with agents.agent(hung, PYTHONPATH=path), agents.agent(well, PYTHONPATH=path):
            agents.await_socket(hung)
            agents.await_socket(well)
            first, second = asyncio.run(compare(hung, well))
    ratio = first / second
    row = agents.row(
        "RPC p99 while one plugin hangs in C",
        f"{ratio:.2f}x without",
        "<= 1.1x",
        met=ratio <= 1.1,
        note=f"{first:.3f} ms, without {second:.3f} ms; the plugin holds its interpreter's lock",
    )
    print(json.dumps({"rows": [row]}))


if __name__ == "__main__":
    main()
