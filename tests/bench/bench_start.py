"""From the start of the process to the first RPC answered, and the idle agent's memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import agents

from agent_core.client import AgentClient

TRIES = 7
DEADLINE = 20.0
IDLE = 2.0


def start_to_answer() -> float:
    """Milliseconds from exec to the answer of a ping, by a client that was ready before."""
    with agents.directory() as root:
        return asyncio.run(_start_to_answer(root))


async def _start_to_answer(root: Path) -> float:
    began = time.perf_counter()
    with agents.agent(root) as _process:
        while not agents.listens(root):
            if time.perf_counter() - began > DEADLINE:
                raise TimeoutError("the agent did not start")
            await asyncio.sleep(0.001)
        async with AgentClient(str(agents.socket(root))) as client:
            await client.ping()
        return (time.perf_counter() - began) * 1e3


def idle_memory() -> int:
    """Resident bytes of an agent that has answered a call and then rested."""
    with agents.directory() as root, agents.agent(root) as process:
        agents.await_socket(root)
        asyncio.run(_status(root))
        time.sleep(IDLE)
        return agents.resident(process.pid)


async def _status(root: Path) -> None:
    async with AgentClient(str(agents.socket(root))) as client:
        await client.get_status()


def bare(code: str) -> float:
    """Milliseconds of a bare interpreter that runs `code`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Print the rows."""
    started = agents.best(TRIES, start_to_answer)
    python = agents.best(TRIES, lambda: bare("pass"))
    libraries = (
        "import asyncio, zmq, pydantic, pydantic.main, structlog, pluggy, msgpack, sqlite3, click"
    )
    imports = agents.best(TRIES, lambda: bare(libraries)) - python
    memory = idle_memory() / 1e6
    rows = [
        agents.row(
            "start to first RPC answered",
            f"{started:.0f} ms",
            "<= 350 ms",
            met=started <= 350,
            note=f"[1400 ms]; a bare interpreter takes {python:.0f} ms, importing the libraries "
            f"used {imports:.0f} ms; most of the rest is defining our own data classes",
        ),
        agents.row(
            "resident memory of the idle agent",
            f"{memory:.1f} MB",
            "<= 75 MB",
            met=memory <= 75,
            note="[272 MB]; with every plugin of the set loaded",
        ),
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
