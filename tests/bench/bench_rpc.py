"""RPC ping over the unix socket, next to a bare pyzmq asyncio echo in the same run."""

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
import zmq
import zmq.asyncio

from agent_core.client import AgentClient
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.rpc import RpcServer

ROUNDS, PINGS, CONNECTIONS, PINGS_EACH = 5, 1500, 32, 150
Ping = Callable[[], Awaitable[object]]


async def serve_agent(path: str) -> None:
    nothing: Any = SimpleNamespace(execute=None)
    server = RpcServer(Dispatcher(nothing, nothing, nothing, nothing), unix=Path(path))
    server.start()
    await asyncio.get_running_loop().create_future()


async def serve_echo(path: str) -> None:
    socket = zmq.asyncio.Context.instance().socket(zmq.ROUTER)
    socket.bind(f"ipc://{path}")
    while True:
        await socket.send_multipart(await socket.recv_multipart())


async def agent_pings(stack: AsyncExitStack, path: str, count: int) -> list[Ping]:
    agents = [await stack.enter_async_context(AgentClient(path)) for _ in range(count)]
    return [partial(agent.ping, "x" * 8) for agent in agents]


async def echo_pings(stack: AsyncExitStack, path: str, count: int) -> list[Ping]:
    sockets = [zmq.asyncio.Context.instance().socket(zmq.DEALER) for _ in range(count)]
    for socket in sockets:
        stack.callback(socket.close, 0)
        socket.connect(f"ipc://{path}")
    return [partial(echo, socket) for socket in sockets]


async def echo(socket: zmq.asyncio.Socket) -> None:
    await socket.send(b"x" * 32)
    await socket.recv()


async def repeat(ping: Ping, times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        await ping()
        seconds.append(time.perf_counter() - began)
    return seconds


async def measure(pings: list[Ping]) -> tuple[float, float]:
    """Return the median of one connection in seconds, and the rate of all in requests/s."""
    await asyncio.gather(*(repeat(ping, 20) for ping in pings))
    median = statistics.median(await repeat(pings[0], PINGS))
    began = time.perf_counter()
    await asyncio.gather(*(repeat(ping, PINGS_EACH) for ping in pings))
    return median, len(pings) * PINGS_EACH / (time.perf_counter() - began)


async def compare(folder: Path) -> dict[str, float]:
    agents: list[tuple[float, float]] = []
    echoes: list[tuple[float, float]] = []
    async with AsyncExitStack() as stack:
        agent = await agent_pings(stack, str(folder / "agent"), CONNECTIONS)
        echo = await echo_pings(stack, str(folder / "echo"), CONNECTIONS)
        for _ in range(ROUNDS):  # in turns, so that a busy machine is busy for both
            agents.append(await measure(agent))
            echoes.append(await measure(echo))
    p50, rate = (statistics.median(column) for column in zip(*agents, strict=True))
    echo_p50, echo_rate = (statistics.median(column) for column in zip(*echoes, strict=True))
    return {
        "ping_p50_ratio": round(p50 / echo_p50, 2),
        "rate_32_ratio": round(rate / echo_rate, 2),
        "ping_p50_ms": round(p50 * 1e3, 3),
        "echo_p50_ms": round(echo_p50 * 1e3, 3),
        "rate_32_per_s": round(rate),
        "echo_rate_32_per_s": round(echo_rate),
    }


def rows(values: dict[str, float]) -> list[dict[str, object]]:
    ping, rate = values["ping_p50_ratio"], values["rate_32_ratio"]
    return [
        agents.row(
            "RPC ping p50 over the unix socket",
            f"{ping:.2f}x a bare echo",
            "<= 1.5x",
            met=ping <= 1.5,
            note=f"{values['ping_p50_ms']:.3f} ms, the echo {values['echo_p50_ms']:.3f} ms",
        ),
        agents.row(
            f"RPC rate over {CONNECTIONS} connections",
            f"{rate:.2f}x a bare echo",
            ">= 0.6x",
            met=rate >= 0.6,
            note=f"{values['rate_32_per_s']:.0f}/s, the echo "
            f"{values['echo_rate_32_per_s']:.0f}/s [8,400/s]",
        ),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = {kind: Path(name) / kind for kind in SERVERS}
        servers = [subprocess.Popen([sys.executable, __file__, k, p]) for k, p in paths.items()]
        try:
            while not all(path.exists() for path in paths.values()):
                time.sleep(0.02)
            values = asyncio.run(compare(Path(name)))
        finally:
            for server in servers:
                server.kill()
                server.wait()
    print(json.dumps({"rows": rows(values)}))


SERVERS = {"agent": serve_agent, "echo": serve_echo}

if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(SERVERS[sys.argv[1]](sys.argv[2]))
    else:
        main()
