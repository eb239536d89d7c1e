"""Ends that no event told of are found by the regular look: a real agent, deaf to its backend."""

import asyncio
import json
import os
import signal
from collections import Counter

from agent_core.agent import Agent
from agent_core.client import AgentClient
from agent_core.config.loader import load

DEADLINE = 45
CONFIG = """
[agent]
id = "t"
rpc-listen-addr = "none"
var-base-path = "{root}/var"
ipc-base-path = "{root}/run"

[agent.sync-container-lifecycles]
enabled = {looks}
interval = "50ms"

[container]
scratch-root = "{root}/scratches"
stop-grace = 1
"""


def played(tmp_path_factory, looks, body):
    root = tmp_path_factory.mktemp("e")
    path = root / "agent.toml"
    path.write_text(CONFIG.format(root=root, looks=looks))
    config = load(path).config

    async def main():
        agent = Agent(config)
        await agent.start()
        try:
            async with (
                asyncio.timeout(DEADLINE),
                AgentClient(str(config.paths.rpc_socket)) as client,
            ):
                created = await client.create_kernel({"image": "sh", "slots": {"mem": "1m"}})
                row = await client.wait_kernel(created.kernel_id, ["RUNNING"], timeout=30)
                assert row.state == "RUNNING"
                await deafen(agent)
                kill(config.paths.state / "backend/containers" / f"t.{row.kernel_id}.1.main.0")
                await body(client, row.kernel_id)
                assert await client.list_leaks() == []
                told = Counter([e.name async for e in client.watch_events(row.kernel_id)])
                assert told["kernel.terminated"] == 1
        finally:
            await agent.stop()

    asyncio.run(main())


async def deafen(agent):
    """Let nobody listen to the backend any more."""
    [listening] = [task for task in agent._periodic if task.get_name() == "backend events"]
    listening.cancel()
    await asyncio.wait({listening})


def kill(container):
    """Kill the main process; its shim sees that and ends."""
    os.kill(json.loads((container / "identity.json").read_text())["main"][0], signal.SIGKILL)


def test_a_look_makes_up_for_an_event_that_was_lost(tmp_path_factory):
    async def body(client, kernel_id):
        row = await client.wait_kernel(kernel_id, ["TERMINATED"], timeout=30)
        assert (row.reason, row.exit_code) == ("self-terminated", 137)

    played(tmp_path_factory, "true", body)


def test_without_regular_looks_a_reconciliation_by_hand_does_so(tmp_path_factory):
    async def body(client, kernel_id):
        while not (await client.plan_reconcile()).actions:  # its shim needs a moment to end
            pass
        assert (await client.wait_kernel(kernel_id, ["RUNNING"])).state == "RUNNING"
        [row] = (await client.reconcile()).actions
        assert (row.verdict, row.outcome) == ("end", "ending")
        row = await client.wait_kernel(kernel_id, ["TERMINATED"], timeout=30)
        assert (row.reason, row.exit_code) == ("self-terminated", 137)

    played(tmp_path_factory, "false", body)
