"""TCP is for those whose key is allowed, and everybody else learns why not."""

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest
import zmq

from agent_core.client import AgentClient
from agent_core.contracts.errors import AgentUnreachable, InvalidConfig, Unauthorized
from agent_core.server.addresses import TcpAddress
from agent_core.wire.keys import (
    Caller,
    ClientKeys,
    KeyPair,
    ensure_keys,
    read_client_keys,
    write_caller,
)
from agent_core.wire.roles import Role


@pytest.fixture
def keys(tmp_path):
    return ensure_keys(tmp_path / "keys")


@pytest.fixture
def mine(tmp_path, keys):
    return read_client_keys(tmp_path / "keys")


@pytest.fixture
def secured(agent, keys):
    """Make a server with CURVE, at which agentctl's key has a role."""

    @asynccontextmanager
    async def serve(role=Role.ADMIN):
        public = read_client_keys(keys.directory).pair.public
        write_caller(keys.directory, Caller("agentctl", public, role))
        async with agent(tcp=TcpAddress("127.0.0.1", 0, keys)) as a:
            yield a, a.server.addresses[1]

    return serve


async def refusal(address, keys=None):
    with pytest.raises(AgentUnreachable) as caught:
        async with AgentClient(address, keys):
            pass
    return caught.value


def stranger(server):
    return ClientKeys(server, KeyPair(*zmq.curve_keypair()))


def test_the_right_key_is_let_in_beside_the_unix_socket(secured, mine):
    async def run():
        async with secured() as (a, address), AgentClient(address, mine) as far:
            assert address.startswith("tcp://127.0.0.1:")
            async with a.client() as near:
                assert await far.ping("far") == "far"
                assert await near.ping("near") == "near"
            assert len([item async for item in far.watch_events()]) == 1

    asyncio.run(run())


def test_a_key_can_do_what_its_role_admits(secured, mine):
    async def run():
        async with secured(Role.READ) as (a, address), AgentClient(address, mine) as client:
            assert (await client.get_status()).agent_id == "a"
            with pytest.raises(Unauthorized, match="needs the role operate"):
                await client.create_kernel({"kernel_id": "k"})
            with pytest.raises(Unauthorized):
                async for _ in client.execute_code("k", "1"):
                    pass
            async with a.client() as near:
                assert (await near.create_kernel({"kernel_id": "k"})).kernel_id == "k"

    asyncio.run(run())


def test_an_unknown_key_is_refused_and_told_so(secured, mine, within, caplog):
    async def run():
        async with secured() as (a, address):
            error = await within(refusal(address, stranger(mine.server)), 1.5)
            assert "the agent refused this key" in error.message
            assert address in error.message
            assert a.server.counters.handshakes_refused >= 1
            async with AgentClient(address, mine) as client:
                assert await client.ping("still") == "still"

    with caplog.at_level(logging.WARNING, "agent_core.server"):
        asyncio.run(run())
    assert "refused the RPC key" in caplog.text


def test_no_key_is_refused_and_told_so(secured, within):
    async def run():
        async with secured() as (_, address):
            error = await within(refusal(address), 1.5)
            assert "it wants a key" in error.message

    asyncio.run(run())


def test_the_key_of_another_agent_is_not_trusted(secured, mine):
    async def run():
        other, _ = zmq.curve_keypair()
        async with secured() as (_, address):
            error = await refusal(address, ClientKeys(other, mine.pair))
            assert "not the agent of this server.key" in error.message
            assert "server.key" in str(error.hint)

    asyncio.run(run())


def test_without_security_anybody_is_let_in_and_keys_are_pointed_out(agent, mine, within):
    async def run():
        async with agent(tcp=TcpAddress("127.0.0.1", 0, insecure=True)) as a:
            address = a.server.addresses[1]
            async with AgentClient(address) as client:
                assert (await client.create_kernel({"kernel_id": "k"})).kernel_id == "k"
            error = await within(refusal(address, mine), 1.5)
            assert "it uses no keys" in error.message

    asyncio.run(run())


def test_where_nobody_listens_the_client_says_so_at_once(within):
    async def run():
        error = await within(refusal("tcp://127.0.0.1:1"), 1.5)
        assert "nothing accepts connections there" in error.message

    asyncio.run(run())


def test_tcp_without_keys_is_refused_unless_it_is_asked_for(agent):
    async def run():
        with pytest.raises(InvalidConfig, match="has no keys") as caught:
            async with agent(tcp=TcpAddress("127.0.0.1", 0)):
                pass
        assert "rpc-insecure" in str(caught.value.hint)

    asyncio.run(run())


def test_a_port_in_use_is_refused_and_nothing_stays_behind(agent, tmp_path):
    async def run():
        async with agent(tmp_path / "one", tcp=TcpAddress("127.0.0.1", 0, insecure=True)) as a:
            port = int(a.server.addresses[1].rpartition(":")[2])
            with pytest.raises(InvalidConfig, match="Address already in use"):
                async with agent(
                    tmp_path / "two", tcp=TcpAddress("127.0.0.1", port, insecure=True)
                ):
                    pass
            assert not (tmp_path / "two").exists()
            async with agent(tmp_path / "two") as b, b.client() as client:
                assert await client.ping("free") == "free"

    asyncio.run(run())


def test_what_secures_tcp_is_not_imported_without_it(tmp_path):
    import subprocess
    import sys

    program = (
        "import asyncio, sys, types\n"
        "from pathlib import Path\n"
        "from agent_core.server.dispatcher import Dispatcher\n"
        "from agent_core.server.rpc import RpcServer\n"
        "from agent_core.client import AgentClient\n"
        "nothing = types.SimpleNamespace(execute=None)\n"
        "async def main(path):\n"
        "    server = RpcServer(Dispatcher(nothing, nothing, nothing, nothing), unix=Path(path))\n"
        "    server.start()\n"
        "    async with AgentClient(path) as client:\n"
        "        print(await client.ping('ok'))\n"
        "    await server.stop()\n"
        "asyncio.run(main(sys.argv[1]))\n"
        "heavy = ('zmq.auth', 'zmq.asyncio', 'agent_core.server.gate', 'structlog', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "agent.sock")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.split("\n")[:2] == ["ok", "[]"]
    assert done.stderr == ""
