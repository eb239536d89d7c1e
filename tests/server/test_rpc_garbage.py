"""Whatever arrives, the server answers the next ping."""

import asyncio

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.wire import frames

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
kinds = st.sampled_from(["request", "reply", "item", "end", "error", "cancel", "credit"])
names = st.sampled_from(["ping", "create_kernel", "get_logs", "execute_code", "wait_kernel"])
garbage = (
    st.binary(max_size=200)
    | anything.map(msgpack.packb)
    | st.tuples(st.just(1), kinds, anything, anything, anything).map(msgpack.packb)
    | st.tuples(st.just(1), kinds, st.integers(1, 50), names, anything, anything, anything).map(
        msgpack.packb
    )
    | st.tuples(
        st.just(1), st.just("request"), st.integers(1, 50), names, anything, st.none(), st.just(0)
    ).map(msgpack.packb)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(garbage, min_size=1, max_size=8))
def test_the_server_answers_a_ping_after_each_message_of_garbage(agent, messages):
    async def run():
        async with agent() as a, a.raw() as noisy, a.client() as client:
            for message in messages:
                await noisy.send(message)
                assert await client.ping("still") == "still"
            await noisy.request(1 << 50)
            while (await noisy.receive()).id != 1 << 50:
                pass

    asyncio.run(run())


def test_a_message_of_several_parts_is_dropped_and_counted(agent):
    async def run():
        async with agent() as a, a.raw() as raw:
            request = frames.encode_request(frames.Request(1, "ping", {}))
            await raw.send(request, b"more")
            await raw.send(b"", request)
            await raw.send(*[b"x"] * 2000)
            assert await raw.proves_alive()
            assert a.server.counters.malformed == 3

    asyncio.run(run())


def test_a_frame_with_a_readable_id_is_answered_with_a_typed_error(agent):
    async def run():
        async with agent() as a, a.raw() as raw:
            await raw.send(msgpack.packb([1, "request", 5, "ping", "no mapping", None, 0]))
            assert (await raw.receive()).error["code"] == "malformed-frame"
            await raw.send(msgpack.packb([9, "request", 6, "whatever comes then"]))
            frame = await raw.receive()
            assert (frame.id, frame.error["code"]) == (6, "protocol-mismatch")
            assert frame.error["details"]["supported"] == [1]
            assert await raw.proves_alive()

    asyncio.run(run())


@pytest.mark.parametrize(
    "frame",
    [frames.encode_reply(5, {}), frames.encode_item(5, {}), frames.encode_end(5)],
)
def test_a_frame_that_only_an_agent_sends_is_refused(agent, frame):
    async def run():
        async with agent() as a, a.raw() as raw:
            await raw.send(frame)
            answer = await raw.receive()
            assert (answer.id, answer.error["code"]) == (5, "malformed-frame")
            assert await raw.proves_alive()

    asyncio.run(run())


def test_cancel_and_credit_of_nothing_do_nothing(agent):
    async def run():
        async with agent() as a, a.raw() as raw:
            await raw.send(frames.encode_cancel(77))
            await raw.send(frames.encode_credit(77, 5))
            assert await raw.proves_alive()
            assert a.server.counters.malformed == 0

    asyncio.run(run())


def test_a_message_beyond_the_bound_costs_its_sender_the_connection_and_nobody_else(agent):
    async def run():
        async with agent() as a, a.raw() as hostile, a.client() as client:
            monitor = hostile.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            await hostile.send(b"x" * (frames.MAX_MESSAGE + 1))
            async with asyncio.timeout(5):
                await monitor.recv_multipart()
            hostile.socket.disable_monitor()
            monitor.close()
            assert await client.ping("still") == "still"
            assert await hostile.proves_alive()

    asyncio.run(run())


def test_bytes_that_are_not_zeromq_do_no_harm(agent):
    async def run():
        async with agent() as a, a.client() as client:
            for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 500, b"", b"\xff\0\0\0"):
                _, writer = await asyncio.open_unix_connection(str(a.path))
                writer.write(greeting)
                await writer.drain()
                assert await client.ping("still") == "still"
                writer.close()
            assert await client.ping("still") == "still"

    asyncio.run(run())
