"""The lag of the agent's event loop while kernels print, beside a bare loop under the same load."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import agents

from agent_core import logs
from agent_core.agent import Agent
from agent_core.client import AgentClient
from agent_core.config.loader import load
from agent_core.wire.models import OutputItem

KERNELS, LINES_A_SECOND, SECONDS, TICK = 50, 20, 10.0, 0.005
PRINTS = f"""
import time
end = time.monotonic() + 3600
while time.monotonic() < end:
    print("x" * 99, flush=True)
    time.sleep({1 / LINES_A_SECOND})
"""


async def lags(seconds: float) -> list[float]:
    """Milliseconds by which the loop comes too late, tick by tick."""
    found = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await asyncio.sleep(TICK)
        found.append((time.perf_counter() - began - TICK) * 1e3)
    return found


def p99(values: list[float]) -> float:
    """What 99 of 100 values stay below."""
    return statistics.quantiles(values, n=100)[98]


async def serve(root: Path) -> None:
    """Be an agent; on a line of input measure the loop and print the lag."""
    config = load(root / "agent.toml").config
    logs.configure(config.logging, directory=root / "logs", debug=False)
    agent = Agent(config)
    await agent.start()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        print(json.dumps(p99(await lags(float(line)))), flush=True)
    await agent.stop()


async def bare() -> None:
    """Be a loop that does nothing else."""
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        print(json.dumps(p99(await lags(float(line)))), flush=True)


async def read_all(client: AgentClient, kernel_id: str, counted: list[int]) -> None:
    """Run the printing code and count its lines."""
    async for item in client.execute_code(kernel_id, PRINTS):
        if isinstance(item, OutputItem) and item.text:
            counted[0] += item.text.count("\n")


async def load_up(root: Path, processes: list[subprocess.Popen[str]]) -> tuple[list[float], float]:
    """Let the kernels print, and ask both loops for their lag; returns also the lines a second."""
    async with AgentClient(str(agents.socket(root))) as client:
        spec = {"image": "python", "slots": {"mem": "1m"}}
        kernels = [(await client.create_kernel(spec)).kernel_id for _ in range(KERNELS)]
        for kernel_id in kernels:
            row = await client.wait_kernel(kernel_id, ["RUNNING"], timeout=120)
            assert row.state == "RUNNING", row
        counted = [0]
        readers = [asyncio.ensure_future(read_all(client, k, counted)) for k in kernels]
        await asyncio.sleep(2)
        before, began = counted[0], time.perf_counter()
        found = await asyncio.gather(*(asyncio.to_thread(ask, each) for each in processes))
        rate = (counted[0] - before) / (time.perf_counter() - began)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for kernel_id in kernels:
            await client.destroy_kernel(kernel_id)
        for kernel_id in kernels:
            await client.wait_kernel(kernel_id, ["TERMINATED"], timeout=60)
    return found, rate


def ask(process: subprocess.Popen[str]) -> float:
    """Let one loop be measured."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{SECONDS}\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline()))


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Start one of the loops and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def main() -> None:
    """Print the row."""
    with agents.directory() as root:
        processes = [begin("serve", str(root)), begin("bare")]
        try:
            (agent, floor), rate = asyncio.run(load_up(root, processes))
        finally:
            for process in processes:
                process.communicate("\n", timeout=30)
    row = agents.row(
        f"event-loop lag p99 while {KERNELS} kernels print",
        f"{agent:.1f} ms",
        "<= 10 ms",
        met=agent <= 10,
        note=f"{rate:.0f} lines/s in all, read by one client; a bare loop beside it {floor:.1f} ms",
    )
    print(json.dumps({"rows": [row]}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", folder]:
            asyncio.run(serve(Path(folder)))
        case ["bare"]:
            asyncio.run(bare())
        case _:
            main()
