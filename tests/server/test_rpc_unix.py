"""The unix socket: for its owner alone, at any path, and never taken from somebody alive."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from agent_core.client import AgentClient
from agent_core.contracts.errors import AgentUnreachable, Conflict, InvalidArgument, InvalidConfig


def test_the_socket_is_for_its_owner_alone(agent):
    async def run():
        previous = os.umask(0)
        try:
            async with agent() as a:
                mode = a.path.stat().st_mode
                assert stat.S_ISSOCK(mode)
                assert stat.S_IMODE(mode) == 0o600
                assert os.umask(0) == 0
                assert a.server.addresses == (f"unix://{a.path}",)
            assert not a.path.exists()
        finally:
            os.umask(previous)

    asyncio.run(run())


def test_a_path_longer_than_a_sockets_address_works(tmp_path, agent):
    async def run():
        folder = tmp_path / ("d" * 120) / ("e" * 120)
        folder.mkdir(parents=True)
        async with agent(folder / "agent.sock") as a, AgentClient(str(a.path)) as client:
            assert await client.ping("far") == "far"
        assert list(folder.iterdir()) == []

    asyncio.run(run())


def test_what_a_killed_server_left_is_replaced(tmp_path, agent):
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def run():
        async with agent() as a, a.client() as client:
            assert a.path == path
            assert await client.ping("new") == "new"

    asyncio.run(run())


def test_the_socket_of_a_living_server_is_not_taken(agent):
    async def run():
        async with agent() as a:
            with pytest.raises(Conflict, match="another process answers"):
                async with agent():
                    pass
            async with a.client() as client:
                assert await client.ping("still") == "still"

    asyncio.run(run())


def test_a_file_that_is_no_socket_is_not_removed(tmp_path, agent):
    path = tmp_path / "agent.sock"
    path.write_text("precious")

    async def run():
        with pytest.raises(InvalidConfig, match="not a socket"):
            async with agent():
                pass

    asyncio.run(run())
    assert path.read_text() == "precious"


def test_a_directory_that_is_not_there_is_named(tmp_path, agent):
    async def run():
        with pytest.raises(InvalidConfig, match="No such file or directory"):
            async with agent(tmp_path / "missing" / "agent.sock"):
                pass

    asyncio.run(run())


def test_the_server_can_start_again_at_the_same_place(agent):
    async def run():
        for _ in range(3):
            async with agent() as a, a.client() as client:
                assert await client.ping("here") == "here"

    asyncio.run(run())


@pytest.mark.parametrize("prefix", ["unix://", "ipc://", ""])
def test_a_path_can_be_written_in_three_ways(agent, prefix):
    async def run():
        async with agent() as a, AgentClient(f"{prefix}{a.path}") as client:
            assert await client.ping("here") == "here"

    asyncio.run(run())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://x",
        "tcp://host",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://a b:1",
        "unix://relative",
        "tcp://::1:5",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidArgument, match="not the address of an agent"):
        AgentClient(text)


def test_where_no_agent_is_the_client_says_so_at_once(tmp_path, within):
    path = tmp_path / "agent.sock"

    async def refused(match):
        with pytest.raises(AgentUnreachable, match=match) as caught:
            async with AgentClient(str(path)):
                pass
        assert caught.value.details["address"] == f"unix://{path}"

    async def run():
        await within(refused("there is no such socket"), 1)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        await within(refused("nobody listens"), 1)
        path.unlink()
        path.write_text("")
        await within(refused("no such socket"), 1)

    asyncio.run(run())


def test_a_listener_that_never_answers_is_told_apart(tmp_path, within):
    path = tmp_path / "agent.sock"

    async def run():
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(path))
            mute.listen()
            with pytest.raises(AgentUnreachable, match=r"no answer within 0\.2 s"):
                async with AgentClient(str(path), connect_timeout=0.2):
                    pass

    asyncio.run(run())


def test_a_router_that_is_no_agent_is_told_apart(tmp_path):
    import zmq

    async def run():
        context = zmq.Context()
        other = context.socket(zmq.ROUTER)
        other.bind(f"ipc://{tmp_path}/agent.sock")
        try:
            with pytest.raises(AgentUnreachable, match="does not answer"):
                async with AgentClient(str(tmp_path / "agent.sock"), connect_timeout=0.1):
                    pass
        finally:
            other.close(linger=0)
            context.term()

    asyncio.run(run())


def test_a_lost_agent_fails_what_waits_and_a_new_one_is_found_again(agent, within):
    async def run():
        async with agent() as a:
            client = a.client(connect_timeout=5.0)
            await client.connect()
            events = client.watch_events(follow=True)
            await anext(events)
            following = asyncio.ensure_future(anext(events))
        with pytest.raises(AgentUnreachable):
            await within(following)
        asked = asyncio.ensure_future(client.get_status())
        async with agent():
            assert (await within(asked)).agent_id == "a"
            assert await client.ping("again") == "again"
        client.close()
        with pytest.raises(AgentUnreachable, match="not connected"):
            await client.ping()

    asyncio.run(run())


def test_a_lost_agent_that_does_not_come_back_is_unreachable(agent, within):
    async def run():
        async with agent() as a:
            client = a.client(connect_timeout=0.2)
            await client.connect()
        for call in (client.get_status(), client.create_kernel({"kernel_id": "k"})):
            with pytest.raises(AgentUnreachable):
                await within(call)
        client.close()

    asyncio.run(run())


def test_nothing_stays_open_after_client_and_server(agent):
    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    async def run():
        counts = []
        for _ in range(6):
            async with agent() as a, a.client() as client:
                await client.ping()
            await asyncio.sleep(0.05)
            counts.append(open_files())
        assert counts[-1] <= counts[1]

    asyncio.run(run())
