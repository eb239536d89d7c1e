"""RPC over TCP with CURVE, next to the same server without, in the same run."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agents

from agent_core.client import AgentClient
from agent_core.server.addresses import TcpAddress
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.rpc import RpcServer
from agent_core.wire.keys import ClientKeys, ensure_keys, read_client_keys

ROUNDS, PINGS, CONNECTIONS, PINGS_EACH = 7, 1000, 16, 150
Ping = Callable[[], Awaitable[object]]


async def serve(kind: str, folder: str) -> None:
    keys = ensure_keys(Path(folder) / "keys") if kind == "curve" else None
    tcp = TcpAddress("127.0.0.1", 0, keys, insecure=keys is None)
    nothing: Any = SimpleNamespace(execute=None)
    server = RpcServer(Dispatcher(nothing, nothing, nothing), tcp=tcp)
    server.start()
    print(server.addresses[0], flush=True)
    await asyncio.get_running_loop().create_future()


async def pings(stack: AsyncExitStack, address: str, keys: ClientKeys | None) -> list[Ping]:
    clients = [
        await stack.enter_async_context(AgentClient(address, keys)) for _ in range(CONNECTIONS)
    ]
    return [partial(client.ping, "x" * 8) for client in clients]


async def repeat(ping: Ping, times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        await ping()
        seconds.append(time.perf_counter() - began)
    return seconds


async def measure(asked: list[Ping]) -> tuple[float, float]:
    """Return the median of one connection in seconds, and the rate of all in requests/s."""
    await asyncio.gather(*(repeat(ping, 10) for ping in asked))
    median = statistics.median(await repeat(asked[0], PINGS))
    began = time.perf_counter()
    await asyncio.gather(*(repeat(ping, PINGS_EACH) for ping in asked))
    return median, len(asked) * PINGS_EACH / (time.perf_counter() - began)


async def compare(secured: str, plain: str, keys: ClientKeys) -> list[dict[str, object]]:
    with_: list[tuple[float, float]] = []
    without: list[tuple[float, float]] = []
    async with AsyncExitStack() as stack:
        curve, bare = await pings(stack, secured, keys), await pings(stack, plain, None)
        for _ in range(ROUNDS):  # in turns, so that a busy machine is busy for both
            with_.append(await measure(curve))
            without.append(await measure(bare))
    ratio = statistics.median(c[1] / p[1] for c, p in zip(with_, without, strict=True))
    p50, rate = (statistics.median(column) for column in zip(*with_, strict=True))
    plain_p50, plain_rate = (statistics.median(column) for column in zip(*without, strict=True))
    note = f"{rate:.0f}/s over {CONNECTIONS} connections, without {plain_rate:.0f}/s; "
    note += f"one ping {p50 * 1e3:.3f} ms, without {plain_p50 * 1e3:.3f} ms"
    what = "RPC rate over TCP with CURVE"
    measured = f"{ratio:.2f}x without"
    return [agents.row(what, measured, ">= 0.9x", met=ratio >= 0.9, note=note)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        servers = [
            subprocess.Popen(
                [sys.executable, __file__, kind, folder], stdout=subprocess.PIPE, text=True
            )
            for kind in ("curve", "plain")
        ]
        try:
            addresses = [server.stdout.readline().strip() for server in servers if server.stdout]
            keys = read_client_keys(Path(folder) / "keys")
            rows = asyncio.run(compare(addresses[0], addresses[1], keys))
        finally:
            for server in servers:
                server.kill()
                server.communicate()
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(serve(sys.argv[1], sys.argv[2]))
    else:
        main()
