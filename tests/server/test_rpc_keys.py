"""A running server takes up what its key directory says, and hangs up on who is removed."""

import asyncio
import logging
import os
import stat
from contextlib import asynccontextmanager

import pytest
import zmq
import zmq.asyncio

from agent_core.client import AgentClient
from agent_core.contracts.errors import AgentUnreachable, Unauthorized
from agent_core.server.addresses import TcpAddress
from agent_core.server.rpc import Limits
from agent_core.wire import frames
from agent_core.wire.keyring import admit, expel
from agent_core.wire.keys import ensure_keys, read_client_keys
from agent_core.wire.roles import Role


@pytest.fixture
def place(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def secured(agent, place):
    """Make a server with CURVE."""

    @asynccontextmanager
    async def serve(**options):
        async with agent(tcp=TcpAddress("127.0.0.1", 0, ensure_keys(place)), **options) as a:
            a.far = a.server.addresses[1]
            yield a

    return serve


def client(a, place, name="agentctl"):
    return AgentClient(a.far, read_client_keys(place, name))


async def handshake(a, place):
    """Connect once, so that the server looks at its keys."""
    async with client(a, place) as other:
        await other.ping()


def test_a_key_is_admitted_without_a_restart(secured, place):
    async def run():
        async with secured() as a:
            admit(place, "manager", Role.OPERATE)
            async with client(a, place, "manager") as manager:
                assert (await manager.create_kernel({"kernel_id": "k"})).kernel_id == "k"
                with pytest.raises(Unauthorized, match="needs the role admin") as caught:
                    await manager.get_config()
                assert "agentctl keys add NAME --role admin" in str(caught.value.hint)

    asyncio.run(run())


def test_a_removed_key_is_hung_up_on_within_two_seconds_and_nobody_else_is(secured, place, within):
    async def run():
        admit(place, "manager", Role.READ)
        async with secured() as a, client(a, place) as other, client(a, place, "manager") as gone:
            events = gone.watch_events(follow=True)
            await anext(events)
            following = asyncio.ensure_future(anext(events))
            expel(place, "manager")
            with pytest.raises(AgentUnreachable):
                await within(following, 2.0)
            await within(a.services.left.wait())
            with pytest.raises(AgentUnreachable, match="refused this key"):
                await within(gone.destroy_kernel("k1"))
            assert await other.ping("still") == "still"
            assert a.server.counters.revoked == 1
            assert a.server.in_flight == 0

    asyncio.run(run())


def test_a_removed_key_that_was_long_silent_is_hung_up_on_at_its_next_word(secured, place, until):
    async def run():
        admit(place, "manager", Role.READ)
        limits = Limits(sweep_interval=0.01)
        async with secured(limits=limits) as a, client(a, place, "manager") as gone:
            roster = a.server._roster
            await until(lambda: len(roster) == 0)
            expel(place, "manager")
            await handshake(a, place)
            with pytest.raises(AgentUnreachable):
                await gone.destroy_kernel("k1")
            assert a.server.counters.revoked == 1
            assert a.server.counters.malformed == 0

    asyncio.run(run())


def test_a_lesser_role_holds_at_once_and_ends_what_it_does_not_admit(secured, place, within):
    async def run():
        admit(place, "manager", Role.OPERATE)
        async with secured() as a, client(a, place, "manager") as manager:
            waiting = asyncio.Event()

            async def execute(params):
                waiting.set()
                await a.services.release.wait()
                yield a.services.next_result

            a.services.execute = execute
            a.server._dispatcher._handlers["execute_code"] = execute
            run_ = asyncio.ensure_future(anext(manager.execute_code("k1", "1")))
            await within(waiting.wait())
            events = manager.watch_events(follow=True)
            await anext(events)

            admit(place, "manager", Role.READ)
            await handshake(a, place)

            with pytest.raises(Unauthorized, match="needs the role operate"):
                await within(run_)
            with pytest.raises(Unauthorized, match="needs the role operate"):
                await manager.create_kernel({"kernel_id": "k"})
            a.services.release.set()
            assert [event async for event in events] == []  # what it admits goes on

            admit(place, "manager", Role.ADMIN)
            await handshake(a, place)
            assert (await manager.get_config())["agent"] == {"id": "a"}

    asyncio.run(run())


def test_a_file_that_is_damaged_while_the_agent_serves_admits_nobody_and_stops_nobody(
    secured, place, caplog
):
    async def run():
        admit(place, "manager", Role.READ)
        async with secured() as a:
            (place / "manager.key").write_text("half a k")
            (place / "folder.key").mkdir()
            with pytest.raises(AgentUnreachable, match="refused this key"):
                await client(a, place, "manager").connect()
            await handshake(a, place)

    with caplog.at_level(logging.WARNING, "agent_core.server"):
        asyncio.run(run())
    assert caplog.text.count("manager.key does not hold a key") == 1


def test_of_one_key_under_two_names_the_lesser_role_counts(secured, place):
    async def run():
        admit(place, "manager", Role.ADMIN)
        content = (place / "manager.key").read_bytes().replace(b"admin", b"read")
        (place / "a-copy.key").write_bytes(content)
        async with secured() as a, client(a, place, "manager") as manager:
            with pytest.raises(Unauthorized):
                await manager.get_config()

    asyncio.run(run())


def test_when_the_directory_is_gone_nobody_is_admitted_and_who_looks_at_home_still_is(
    secured, place, tmp_path
):
    async def run():
        async with secured() as a, a.client() as near:
            keys = read_client_keys(place)
            place.rename(tmp_path / "elsewhere")
            with pytest.raises(AgentUnreachable, match="refused this key"):
                await AgentClient(a.far, keys).connect()
            assert await near.ping("still") == "still"

    asyncio.run(run())


def test_who_takes_over_the_name_of_a_connection_does_not_take_over_its_role(
    secured, place, within
):
    def named(a, name):
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.DEALER)
        keys = read_client_keys(place, name)
        socket.linger, socket.routing_id = 0, b"manager-1"
        socket.curve_serverkey = keys.server
        socket.curve_publickey, socket.curve_secretkey = keys.pair.public, keys.pair.secret
        socket.connect(a.far)
        return socket

    async def ask(socket, number, method, params):
        await socket.send(frames.encode_request(frames.Request(number, method, params)))

    async def run():
        admit(place, "watcher", Role.READ)
        async with secured() as a:
            operator = named(a, "agentctl")
            await ask(operator, 1, "wait_kernel", {"kernel_id": "k1", "states": ["RUNNING"]})
            await within(a.services.entered.wait())
            operator.close()
            operator.context.term()
            watcher = named(a, "watcher")
            await ask(watcher, 2, "get_config", {})
            answer = frames.decode(await within(watcher.recv()))
            assert answer.id == 2
            assert answer.error["details"] == {"needs": "admin", "has": "read"}
            await within(a.services.left.wait())
            watcher.close()
            watcher.context.term()

    asyncio.run(run())


def test_hanging_up_never_touches_a_connection_that_took_over_the_number(secured, place, within):
    from agent_core.server.connections import TcpConnection

    async def run():
        async with secured() as a, client(a, place) as near:
            peer = next(iter(a.server._roster._peers.values()))
            connection = peer._connection
            assert stat.S_ISSOCK(os.fstat(connection.descriptor).st_mode)
            TcpConnection(connection.descriptor, ("127.0.0.1", 1)).cut()
            TcpConnection(1 << 20, connection.far_end).cut()
            assert await within(near.ping("still")) == "still"

    asyncio.run(run())
