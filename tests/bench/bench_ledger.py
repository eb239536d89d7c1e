"""The ledger's work of kernels: commits of one life, and the lives of hundreds at once."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import agents

from agent_core.client import AgentClient
from agent_core.events.bus import EventBus
from agent_core.kernels.journal import Journal, begin
from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, HoldState, KernelRow, Ledger

KERNELS, ROUNDS = 500, 5
SPEC = {"image": "python", "slots": {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"}}
CLAIMS, STEPS = 3, ("port", "scratch", "run-dir", "device", "container")


def commits_of_a_life() -> int:
    """Let one kernel live on a real agent and count its commits."""
    with agents.directory() as root:
        trace = root / "trace"
        with agents.agent(root, AGENT_FAILPOINTS_TRACE=str(trace)):
            agents.await_socket(root)
            asyncio.run(_live(root))
        passed = trace.read_text().split()
    return sum(name.startswith("commit.") and name.endswith(".after") for name in passed)


async def _live(root: Path) -> None:
    async with AgentClient(str(agents.socket(root))) as client:
        created = await client.create_kernel(SPEC)
        await client.wait_kernel(created.kernel_id, ["RUNNING"], timeout=30)
        await client.destroy_kernel(created.kernel_id)
        await client.wait_kernel(created.kernel_id, ["TERMINATED"], timeout=30)


async def life(ledger: Ledger, bus: EventBus, name: str) -> None:
    """Write what an owner writes from a create to the end of a destroy."""
    row = KernelRow(name, name, "PREPARING", SPEC, "digest", time.time(), container=f"a.{name}")
    journal = Journal(ledger, bus, row)
    await begin(ledger, bus, [(journal, [_hold("claim", name, n) for n in range(CLAIMS)])])
    for kind in STEPS:
        await journal.taking([_hold(kind, name, 0)])
    await journal.change(KernelState.RUNNING, put=journal.settled(), started_at=time.time())
    await journal.change(KernelState.TERMINATING, mark=HoldState.RELEASING, reason="done")
    container, *rest = sorted(await journal.holds(), key=lambda hold: hold.kind != "container")
    await journal.gone(container, 0)
    await journal.change(KernelState.TERMINATED, drop=rest, ended_at=time.time())


def _hold(kind: str, name: str, number: int) -> HoldRow:
    return HoldRow(kind, f"{name}.{number}", name, undo={"path": f"/scratch/{name}"})


async def lives_per_second(folder: Path) -> float:
    """Let hundreds of kernels live at once, as far as the ledger is concerned."""
    ledger = Ledger(folder / "ledger.db")
    ledger.open()
    try:
        bus = EventBus(ledger)
        began = time.perf_counter()
        await asyncio.gather(*(life(ledger, bus, f"k{number}") for number in range(KERNELS)))
        return KERNELS / (time.perf_counter() - began)
    finally:
        ledger.close()


def _round() -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        return asyncio.run(lives_per_second(Path(name)))


def main() -> None:
    """Print the rows."""
    commits = commits_of_a_life()
    rate = statistics.median(_round() for _ in range(ROUNDS))
    each = len(STEPS) + 5
    rows = [
        agents.row(
            "commits of one kernel's whole life",
            f"{commits}",
            "<= 30",
            met=commits <= 30,
            note="create and destroy on the process backend, counted at the failpoints; with what "
            "the agent itself writes at its start",
        ),
        agents.row(
            f"ledger work of {KERNELS} kernels' lives at once (median)",
            f"{rate:.0f} lives/s",
            ">= 1000/s",
            met=rate >= 1000,
            note=f"{rate * each:.0f} transactions/s of {each} in a life, each durable, in shared "
            "commits; of a life about 0.7 ms are the ledger's thread (SQLite, sums, JSON) and "
            "0.4 ms the owner's loop, which share one interpreter's lock",
        ),
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
