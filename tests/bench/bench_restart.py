"""An agent that is killed and started again beside a hundred kernels, which must not notice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

import agents

from agent_core.client import AgentClient
from agent_core.wire.models import OutputItem

KERNELS, TRIES, AT_ONCE = 100, 5, 4
SPEC = {"image": "python", "slots": {"mem": "1m"}}


async def pid_of(client: AgentClient, kernel_id: str) -> str:
    """The process that runs a kernel's code."""
    items = client.execute_code(kernel_id, "import os; print(os.getpid())")
    said = [item.text async for item in items if isinstance(item, OutputItem) and item.text]
    return "".join(said).strip()


async def populate(root: Path) -> dict[str, str]:
    """Create the kernels, and say which processes they are."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with AgentClient(str(agents.socket(root))) as client:

        async def one(number: int) -> tuple[str, str]:
            async with gate:
                created = await client.create_kernel({**SPEC, "kernel_id": f"k{number}"})
                row = await client.wait_kernel(created.kernel_id, ["RUNNING"], timeout=120)
                assert row.state == "RUNNING", row
                return created.kernel_id, await pid_of(client, created.kernel_id)

        return dict(await asyncio.gather(*(one(number) for number in range(KERNELS))))


async def ready(root: Path, began: float) -> float:
    """Milliseconds until the agent says that all kernels run."""
    while not agents.listens(root):
        if time.perf_counter() - began > 30:
            raise TimeoutError("the agent did not start")
        await asyncio.sleep(0.001)
    async with AgentClient(str(agents.socket(root))) as client:
        status = await client.get_status()
        assert status.kernels == {"RUNNING": KERNELS}, status
        return (time.perf_counter() - began) * 1e3


async def untouched(root: Path, before: dict[str, str]) -> int:
    """Count the kernels that run the processes that they ran before, and answer."""
    async with AgentClient(str(agents.socket(root))) as client:
        after = {kernel_id: await pid_of(client, kernel_id) for kernel_id in before}
    return sum(after[kernel_id] == pid for kernel_id, pid in before.items())


async def destroy_all(root: Path) -> None:
    """Leave nothing."""
    async with AgentClient(str(agents.socket(root))) as client:
        for row in await client.list_kernels():
            await client.destroy_kernel(row.kernel_id)
        for row in await client.list_kernels():
            await client.wait_kernel(row.kernel_id, ["TERMINATED"], timeout=60)


def restart(root: Path) -> float:
    """Milliseconds from exec to ready; the agent is killed again."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [agents.AGENTCTL, "serve", "-f", str(root / "agent.toml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return asyncio.run(ready(root, began))
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Print the row."""
    with agents.directory() as root:
        with agents.agent(root):
            agents.await_socket(root)
            before = asyncio.run(populate(root))
        took = agents.best(TRIES, lambda: restart(root))
        with agents.agent(root):
            agents.await_socket(root)
            same = asyncio.run(untouched(root, before))
            asyncio.run(destroy_all(root))
    met = took <= 1000 and same == KERNELS
    row = agents.row(
        f"restart with {KERNELS} process kernels: from exec to ready",
        f"{took:.0f} ms, {same} untouched",
        f"<= 1000 ms, {KERNELS} untouched",
        met=met,
        note=f"after SIGKILL, {TRIES} times; ready is the first answer that all kernels run",
    )
    print(json.dumps({"rows": [row]}))


if __name__ == "__main__":
    main()
