"""A create on the process backend beside the spawn of the same interpreter; and its ledger work."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import agents

from agent_core.client import AgentClient
from agent_core.wire.models import KernelDetail

KERNELS = 15
SPEC = {"image": "python", "slots": {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"}}


def spawn() -> float:
    """Milliseconds to start the interpreter and end it."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1e3


async def create_and_destroy(client: AgentClient) -> tuple[float, float, KernelDetail]:
    """Milliseconds to RUNNING and to TERMINATED, and the kernel's own timings."""
    began = time.perf_counter()
    created = await client.create_kernel(SPEC)
    await client.wait_kernel(created.kernel_id, ["RUNNING"], timeout=30)
    running = time.perf_counter()
    detail = await client.get_kernel_status(created.kernel_id)
    ending = time.perf_counter()
    await client.destroy_kernel(created.kernel_id)
    await client.wait_kernel(created.kernel_id, ["TERMINATED"], timeout=30)
    return (running - began) * 1e3, (time.perf_counter() - ending) * 1e3, detail


async def measure(root: Path) -> list[tuple[float, float, KernelDetail]]:
    """Create and destroy several kernels, one after the other."""
    async with AgentClient(str(agents.socket(root))) as client:
        await create_and_destroy(client)
        return [await create_and_destroy(client) for _ in range(KERNELS)]


def main() -> None:
    """Print the rows."""
    with agents.directory() as root, agents.agent(root):
        agents.await_socket(root)
        lives = asyncio.run(measure(root))
    floor = statistics.median(spawn() for _ in range(KERNELS))
    create = statistics.median(life[0] for life in lives)
    destroy = statistics.median(life[1] for life in lives)
    detail = sorted(lives, key=lambda life: life[0])[KERNELS // 2][2]
    ledger = statistics.median(
        sum(t.ledger_seconds for t in life[2].timings) * 1e3 for life in lives
    )
    steps = ", ".join(f"{t.step} {t.seconds * 1e3:.1f}" for t in detail.timings)
    rows = [
        agents.row(
            "create on the process backend (median)",
            f"{create:.0f} ms",
            f"<= spawn + 50 ms = {floor + 50:.0f} ms",
            met=create <= floor + 50,
            note=f"spawn of the interpreter {floor:.0f} ms; steps in ms: {steps}; "
            f"destroy {destroy:.0f} ms",
        ),
        agents.row(
            "of which ledger (median)",
            f"{ledger:.1f} ms",
            "<= 5 ms",
            met=ledger <= 5,
            note="waiting for commits, fsync included",
        ),
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
