"""RPC over TCP with CURVE, next to the same server without, in the same run.

Client and server share this machine, so the rate also pays for the client's part of CURVE. The CPU
time of both is told, since it does not depend on what else the machine does.
"""

import asyncio
import json
import os
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

ROUNDS, PINGS, CONNECTIONS, PINGS_EACH = 60, 100, 16, 100
TICKS = os.sysconf("SC_CLK_TCK")
Ping = Callable[[], Awaitable[object]]


async def serve(kind: str, folder: str) -> None:
    keys = ensure_keys(Path(folder) / "keys") if kind == "curve" else None
    tcp = TcpAddress("127.0.0.1", 0, keys, insecure=keys is None)
    nothing: Any = SimpleNamespace(execute=None)
    server = RpcServer(Dispatcher(nothing, nothing, nothing, nothing), tcp=tcp)
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


def cpu_seconds(*pids: int) -> float:
    """CPU time of all threads of these processes."""
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS


class Side:
    """One server, the client's connections to it, and what was measured of them."""

    def __init__(self, asked: list[Ping], server: int) -> None:
        self.asked = asked
        self.pids = (os.getpid(), server)
        self.rates: list[float] = []
        self.pings: list[float] = []
        self.cpu = 0.0

    async def round(self) -> None:
        """Ask over one connection, then over all at once."""
        self.pings += await repeat(self.asked[0], PINGS)
        began, used = time.perf_counter(), cpu_seconds(*self.pids)
        await asyncio.gather(*(repeat(ping, PINGS_EACH) for ping in self.asked))
        self.rates.append(CONNECTIONS * PINGS_EACH / (time.perf_counter() - began))
        self.cpu += cpu_seconds(*self.pids) - used

    def summary(self) -> str:
        """The rate, the CPU time of one request, and the median of one connection."""
        each = self.cpu / (len(self.rates) * CONNECTIONS * PINGS_EACH)
        return (
            f"{statistics.median(self.rates):.0f}/s at {each * 1e6:.0f} us of CPU, "
            f"one ping {statistics.median(self.pings) * 1e3:.3f} ms"
        )


async def compare(curve: tuple[str, int], plain: tuple[str, int], keys: ClientKeys) -> list[Any]:
    async with AsyncExitStack() as stack:
        secured = Side(await pings(stack, curve[0], keys), curve[1])
        bare = Side(await pings(stack, plain[0], None), plain[1])
        for side in (secured, bare):
            await asyncio.gather(*(repeat(ping, 10) for ping in side.asked))
        for number in range(ROUNDS):  # in short turns, so that a busy machine is busy for both
            for side in (secured, bare) if number % 2 else (bare, secured):
                await side.round()
    ratio = statistics.median(c / p for c, p in zip(secured.rates, bare.rates, strict=True))
    note = f"{CONNECTIONS} connections, client and server together: {secured.summary()}; "
    note += f"without {bare.summary()}"
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
            secured, bare = [(s.stdout.readline().strip(), s.pid) for s in servers if s.stdout]
            rows = asyncio.run(compare(secured, bare, read_client_keys(Path(folder) / "keys")))
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
