"""Clients that stop, crowd, stall or vanish cost the server a bounded amount, and nobody else."""

import asyncio
import os
import resource
import signal
import socket
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from agent_core.client import AgentClient
from agent_core.server import transport
from agent_core.server.addresses import TcpAddress
from agent_core.server.rpc import Limits
from agent_core.wire import frames
from agent_core.wire.keys import ensure_keys, read_client_keys

MIB = 1 << 20
LOGS = {"kernel_id": "k1", "follow": True}

FOLLOWER = """
import asyncio, sys
from agent_core.client import AgentClient
from agent_core.wire.methods import GET_LOGS

async def main(address):
    async with AgentClient(address) as agent:
        async with await agent.stream(GET_LOGS, {"kernel_id": "k1", "follow": True}) as items:
            async for _ in items:
                print(flush=True)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def more_descriptors(number):
    """Let this process open more files than its soft limit admits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if wanted < number:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def pings(client, count=50):
    """Return the median seconds of a ping."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        await client.ping()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


# ---- half handshakes ---------------------------------------------------------------------------

NULL = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
CURVE = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
GREETINGS = {
    "nothing": b"",
    "half a greeting": CURVE[:10],
    "HTTP": b"GET /metrics HTTP/1.1\r\nHost: agent\r\n\r\n",
    "no mechanism": NULL + b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER",
    "a mechanism and no more": CURVE,
    "half a hello": CURVE + b"\x04\xc8\x05HELLO\x01\x00" + bytes(50),
    "a false hello": CURVE + b"\x04\xc8\x05HELLO\x01\x00" + bytes(192),
    "an endless command": CURVE + b"\x06" + b"\x7f" + b"\xff" * 7 + b"x" * 1000,
    "noise": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS.keys())
def test_half_a_handshake_is_hung_up_on_while_others_are_served(
    agent, tmp_path, monkeypatch, usage, until, greeting
):
    monkeypatch.setattr(transport, "HANDSHAKE_MS", 300)
    keys = ensure_keys(tmp_path / "keys")

    async def run():
        async with agent(tcp=TcpAddress("127.0.0.1", 0, keys)) as a:
            address = a.server.addresses[1]
            host, _, port = address.removeprefix("tcp://").partition(":")
            await once(address, keys)
            before, _ = usage()
            halves = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
            for _, writer in halves:
                writer.write(greeting)
            await once(address, keys)
            async with asyncio.timeout(5):
                for reader, _ in halves:
                    await ended(reader)
            for _, writer in halves:
                writer.close()
            await until(lambda: usage()[0] <= before)
            assert a.server.in_flight == 0
            assert a.server.counters.defects == 0

    asyncio.run(run())


def test_a_handshake_that_is_cut_at_any_byte_leaves_nothing(agent, tmp_path, usage, until):
    keys = ensure_keys(tmp_path / "keys")
    whole = GREETINGS["a false hello"]

    async def run():
        async with agent(tcp=TcpAddress("127.0.0.1", 0, keys)) as a:
            address = a.server.addresses[1]
            host, _, port = address.removeprefix("tcp://").partition(":")
            await once(address, keys)
            before, _ = usage()
            for length in range(0, len(whole), 3):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(whole[:length])
                writer.transport.abort()
            await once(address, keys)
            await until(lambda: usage()[0] <= before)

    asyncio.run(run())


async def once(address, keys):
    """Connect, ask and leave as an honest client does."""
    async with AgentClient(address, read_client_keys(keys.directory)) as client:
        assert await client.ping("still") == "still"


def established(address):
    """Count the connections that stand on the server's side of a TCP address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


async def ended(reader):
    """Read until the other side hangs up."""
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass


# ---- crowds ------------------------------------------------------------------------------------


def test_a_thousand_idle_clients_cost_little_and_leave_nothing(agent, bare, usage, until):
    async def run():
        limits = Limits(sweep_interval=0.1)
        async with agent(limits=limits) as a, a.client() as client:
            alone = await pings(client)
            files, resident = usage()
            crowd = []
            for number in range(1000):
                crowd.append(await bare(a.path))
                await crowd[-1].request(1, "ping", {"text": f"{number}"})
            for number, idle in enumerate(crowd):
                assert await idle.answer() == frames.Reply(1, {"text": f"{number}"})
            # Two descriptors for each: this process holds both ends.
            assert usage()[0] <= files + 2 * len(crowd) + 10
            assert usage()[1] <= resident + len(crowd) * (96 << 10)
            assert await pings(client) < alone * 3 + 0.002
            await until(lambda: len(a.server._roster) <= 1)  # the idle are forgotten
            await crowd[0].request(2)
            assert (await crowd[0].answer()).id == 2  # and known again when they speak
            for idle in crowd:
                idle.close()
            await until(lambda: usage()[0] <= files)

    with more_descriptors(4096):
        asyncio.run(run())


def test_a_thousand_calls_of_clients_that_vanish_all_end(agent, bare, usage, until):
    async def run():
        async with agent(limits=Limits(sweep_interval=0.05)) as a, a.client() as client:
            files, _ = usage()
            crowd = [await bare(a.path) for _ in range(10)]
            for number in range(100):
                for one in crowd:
                    stream = {**LOGS} if number % 2 else {**LOGS, "follow": False}
                    await one.request(number + 1, "get_logs", stream)
            await until(lambda: a.server.in_flight >= 960)
            for one in crowd:
                one.close()
            await until(lambda: a.server.in_flight == 0)
            await until(lambda: usage()[0] <= files)
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_connections_that_come_and_go_leave_neither_descriptors_nor_memory(
    agent, bare, usage, until
):
    async def churn(a, rounds):
        for number in range(rounds):
            one = await bare(a.path)
            await one.request(1, "get_logs", LOGS, credit=20_000 if number % 3 else 0)
            await one.request(2, "ping")
            if number % 2:
                await one.reader.read(100)
            one.close()

    async def run():
        async with agent(limits=Limits(sweep_interval=0.02)) as a, a.client() as client:
            await churn(a, 200)
            await until(lambda: not a.server.in_flight and len(a.server._roster) <= 2)
            files, resident = usage()
            await churn(a, 600)
            await until(lambda: not a.server.in_flight and len(a.server._roster) <= 2)
            assert usage()[0] <= files
            assert usage()[1] <= resident + 12 * MIB
            assert len(a.server._roster) <= 2
            assert a.server.counters.backlog == 0
            assert await client.ping("still") == "still"

    asyncio.run(run())


# ---- clients that do not read ------------------------------------------------------------------


def test_a_client_that_asks_much_and_never_reads_is_bounded_in_bytes(agent, bare, usage):
    async def run():
        async with agent() as a, a.client() as client:
            a.services.sent = MIB  # one answer of get_config
            await client.get_config()
            _, before = usage()
            deaf = await bare(a.path)
            for number in range(600):
                await deaf.request(number + 1, "get_config")
                await asyncio.sleep(0)
            assert await client.ping("still") == "still"
            await asyncio.sleep(0.2)
            # What libzmq keeps, what the server keeps, and what is being made.
            assert usage()[1] - before < (32 + 8 + 16) * MIB
            assert a.server.counters.backlog <= 9 * MIB
            assert a.server.counters.vanished >= 1
            deaf.close()

    asyncio.run(run())


def test_a_client_by_tcp_that_never_reads_is_hung_up_on(agent, tmp_path, until):
    keys = ensure_keys(tmp_path / "keys")

    async def run():
        async with agent(tcp=TcpAddress("127.0.0.1", 0, keys)) as a:
            a.services.sent = MIB
            address = a.server.addresses[1]
            with deaf(address, read_client_keys(keys.directory)) as socket_:
                await socket_.send(frames.encode_request(frames.Request(1, "ping", {})))
                await until(lambda: established(address) == 1)
                for number in range(2, 200):
                    request = frames.Request(number, "get_config", {})
                    await socket_.send(frames.encode_request(request))
                    await asyncio.sleep(0)
                # The client's library does not notice before it reads; the server has let go.
                await until(lambda: established(address) == 0)
            assert a.server.counters.vanished >= 1
            async with a.client() as near:
                assert await near.ping("still") == "still"

    asyncio.run(run())


@contextmanager
def deaf(address, keys):
    """Yield a socket whose library reads but one message ahead."""
    context = zmq.asyncio.Context()
    socket_ = context.socket(zmq.DEALER)
    socket_.linger = 0
    socket_.rcvhwm = 1
    socket_.curve_serverkey = keys.server
    socket_.curve_publickey, socket_.curve_secretkey = keys.pair.public, keys.pair.secret
    socket_.connect(address)
    try:
        yield socket_
    finally:
        socket_.close()
        context.term()


def test_all_clients_that_never_read_are_bounded_together(agent, bare):
    async def run():
        async with agent() as a, a.client() as client:
            a.services.sent = MIB
            crowd = [await bare(a.path) for _ in range(14)]
            for number in range(44):
                for deaf in crowd:
                    await deaf.request(number + 1, "get_config")
                assert a.server.counters.backlog <= 65 * MIB
            assert await client.ping("still") == "still"
            assert a.server.counters.vanished >= 1
            for deaf in crowd:
                deaf.close()

    asyncio.run(run())


# ---- clients that are stopped and killed -------------------------------------------------------


@pytest.mark.parametrize("by", ["unix", "tcp"])
def test_a_stopped_client_suspends_its_stream_only_and_a_killed_one_ends_it(
    agent, usage, until, within, by
):
    async def run():
        tcp = TcpAddress("127.0.0.1", 0, insecure=True)
        async with agent(tcp=tcp, limits=Limits(sweep_interval=0.05)) as a, a.client() as client:
            address = a.server.addresses[by == "tcp"]
            files, _ = usage()
            follower = await asyncio.create_subprocess_exec(
                sys.executable, "-c", FOLLOWER, address, stdout=asyncio.subprocess.PIPE
            )
            try:
                await within(follower.stdout.readline(), 15)
                os.kill(follower.pid, signal.SIGSTOP)
                sent = await suspended(a)
                _, resident = usage()
                await asyncio.sleep(0.3)  # many sweeps
                assert a.services.sent == sent
                assert a.server.in_flight == 1
                assert usage()[1] < resident + 4 * MIB
                assert await pings(client) < 0.05
                os.kill(follower.pid, signal.SIGCONT)
                async with asyncio.timeout(10):
                    while a.services.sent == sent:
                        await follower.stdout.read(1 << 16)
            finally:
                follower.kill()
                await follower.communicate()
            await within(a.services.left.wait())
            await until(lambda: a.server.in_flight == 0)
            await until(lambda: usage()[0] <= files)

    asyncio.run(run())


async def suspended(a):
    """Wait until the stream is sent no further, and return how far it came."""
    before = -1
    while before != a.services.sent:
        before = a.services.sent
        await asyncio.sleep(0.2)
    return before


def test_a_stream_without_a_pause_leaves_the_loop_to_others(agent):
    async def run():
        async with agent() as a, a.raw() as greedy, a.client() as client:
            await client.ping()
            for number in range(1, 9):
                await greedy.request(number, "get_logs", LOGS, credit=frames.MAX_CREDIT)
            await a.services.entered.wait()
            lags = []
            loop = asyncio.get_running_loop()
            for _ in range(200):
                began = loop.time()
                await asyncio.sleep(0)
                lags.append(loop.time() - began)
            assert statistics.quantiles(lags, n=20)[-1] < 0.05
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_a_listener_whose_queue_is_full_of_dead_connections_still_accepts(agent, within):
    async def run():
        async with agent() as a:
            for _ in range(300):
                with socket.socket(socket.AF_UNIX) as dead:
                    dead.setblocking(False)
                    try:
                        dead.connect(str(a.path))
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
            client = a.client()
            await within(client.connect())
            assert await client.ping("still") == "still"
            client.close()

    asyncio.run(run())
