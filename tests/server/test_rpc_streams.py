"""Streams flow by credit, end with their result, and end in the agent when nobody wants them."""

import asyncio
from contextlib import aclosing

import pytest

from agent_core.client.stream import WINDOW
from agent_core.contracts.errors import InternalError, NotFound
from agent_core.server.rpc import Limits
from agent_core.wire import frames, methods
from agent_core.wire import models as m

LOGS = {"kernel_id": "k1", "follow": True}


async def settled(services):
    """Let the server do all that it can, and return how much it then had sent."""
    before = -1
    while before != services.sent:
        before = services.sent
        await asyncio.sleep(0.1)
    return before


def test_a_client_that_never_reads_suspends_the_stream(agent):
    async def run():
        async with agent() as a, a.raw() as raw, a.client() as other:
            await raw.request(1, "get_logs", LOGS, credit=100_000)
            await a.services.entered.wait()
            sent = await settled(a.services)
            # What the credit admits, one that exceeds it, and one that waits.
            assert 12 <= sent <= 15
            assert await other.ping("still") == "still"
            await raw.send(frames.encode_credit(1, 80_000))
            assert sent + 9 <= await settled(a.services) <= sent + 11

    asyncio.run(run())


def test_without_any_credit_nothing_is_sent_but_the_end(agent):
    async def run():
        async with agent() as a, a.raw() as raw:
            await raw.request(1, "get_logs", LOGS)
            await raw.proves_alive()
            await raw.send(frames.encode_cancel(1))
            await asyncio.wait_for(a.services.left.wait(), 5)
            assert await raw.proves_alive(9)

    asyncio.run(run())


def test_a_slow_consumer_bounds_what_the_agent_sends_ahead(agent):
    async def run():
        async with agent() as a, a.client() as client:
            async with await client.stream(methods.GET_LOGS, LOGS) as stream:
                await anext(stream)
                ahead = await settled(a.services)
                assert ahead * 8192 <= WINDOW + 2 * 8192
                for _ in range(ahead * 3):  # it goes on as it is consumed
                    await anext(stream)
                assert a.services.sent > ahead * 2
            await asyncio.wait_for(a.services.left.wait(), 5)

    asyncio.run(run())


def test_a_client_that_gives_credit_but_never_reads_is_bounded_too(agent):
    async def run():
        async with agent() as a, a.raw() as raw, a.client() as other:
            raw.socket.rcvhwm = 10
            for request_id in range(1, 9):
                await raw.request(request_id, "get_logs", LOGS, credit=frames.MAX_CREDIT)
            sent = await settled(a.services)
            assert sent * 8192 < 40 << 20
            assert await other.ping("still") == "still"

    asyncio.run(run())


def test_closing_the_iterator_early_ends_the_stream_in_the_agent(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            async with aclosing(client.watch_events(follow=True)) as events:
                assert (await anext(events)).id == "1-1"
                assert not a.services.left.is_set()
            await within(a.services.left.wait())
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_leaving_the_loop_is_enough_to_end_the_stream(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            async for _ in client.get_logs("k1", follow=True):
                break
            await within(a.services.left.wait())

    asyncio.run(run())


@pytest.mark.parametrize("stream", ["get_logs", "watch_events"])
def test_a_client_that_vanishes_ends_its_streams(agent, within, stream):
    async def run():
        async with agent(limits=Limits(sweep_interval=0.05)) as a:
            async with a.raw() as raw:
                await raw.request(1, stream, LOGS, credit=1000)
                await raw.receive()
                assert a.server.in_flight == 1
            await within(a.services.left.wait())
            assert a.server.counters.vanished == 1

    asyncio.run(run())


def test_the_look_for_vanished_clients_leaves_quiet_ones_alone(agent):
    async def run():
        async with agent(limits=Limits(sweep_interval=0.02)) as a, a.client() as client:
            events = client.watch_events(follow=True)
            await anext(events)
            await asyncio.sleep(0.3)  # many looks
            a.services.release.set()
            assert [event async for event in events] == []

    asyncio.run(run())


def test_an_error_in_a_stream_comes_after_the_items_before_it(agent):
    async def run():
        async with agent() as a, a.client() as client:

            async def failing(kernel_id, *, follow):
                yield m.LogItem(data=b"one")
                raise NotFound("the container is gone")

            a.services.logs = failing
            got = []
            with pytest.raises(NotFound, match="the container is gone"):
                got.extend([item.data async for item in client.get_logs("k1")])
            stream = await client.stream(methods.GET_LOGS, {"kernel_id": "k1"})
            assert (await anext(stream)).data == b"one"
            with pytest.raises(NotFound):
                await anext(stream)
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_a_run_that_ends_without_its_result_is_a_defect_and_said_so(agent):
    async def run():
        async with agent() as a, a.client() as client:
            a.services.next_result = None
            with pytest.raises(InternalError, match="without a result"):
                async for _ in client.execute_code("k1", "1"):
                    pass

    asyncio.run(run())


def test_a_large_output_arrives_whole_and_in_order(agent):
    async def run():
        async with agent() as a, a.client() as client:
            a.services.next_output = [
                m.OutputItem(kind="output", stream="stdout", text=f"{number:06} " + "x" * 30_000)
                for number in range(300)
            ]
            items = [item async for item in client.execute_code("k1", "1")]
            assert [int(item.text[:6]) for item in items[:-1]] == list(range(300))
            assert items[-1].status == "finished"

    asyncio.run(run())


def test_a_source_that_does_not_close_in_order_is_still_let_go(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            closed = asyncio.Event()

            class Items:
                def __aiter__(self):
                    return self

                async def __anext__(self):
                    return m.LogItem(data=b"x")

                async def aclose(self):
                    closed.set()
                    raise RuntimeError("cannot close")

            a.services.logs = lambda kernel_id, *, follow: Items()
            async with aclosing(client.get_logs("k1")) as items:
                await anext(items)
            await within(closed.wait())
            assert await client.ping("still") == "still"
            assert a.server.in_flight == 0

    asyncio.run(run())
