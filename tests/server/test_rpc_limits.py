"""Deadlines, bounds, repeated requests, and a graceful stop."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from agent_core.client import AgentClient
from agent_core.contracts.errors import AgentUnreachable, Busy, DeadlineExceeded, InternalError
from agent_core.server.addresses import TcpAddress
from agent_core.server.rpc import Limits
from agent_core.wire import frames

WAIT = {"kernel_id": "k1", "states": ["RUNNING"]}
SLOW = {"spec": {"kernel_id": "k2", "slow": True}}


def test_a_passed_deadline_ends_the_waiting(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            with pytest.raises(DeadlineExceeded, match="did not end within") as caught:
                await client.wait_kernel("k1", ["RUNNING"], timeout=0.05)
            assert caught.value.hint == "Ask again, with more time."
            await within(a.services.left.wait())
            assert a.server.in_flight == 0
            assert a.server.counters.methods["wait_kernel"].failures == {"deadline-exceeded": 1}

    asyncio.run(run())


def test_a_passed_deadline_does_not_end_a_create(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            with pytest.raises(DeadlineExceeded) as caught:
                await client.create_kernel(SLOW["spec"], timeout=0.05)
            assert caught.value.hint == DeadlineExceeded.hint
            assert not a.services.left.is_set()
            a.services.release.set()
            await within(a.services.left.wait())
            assert a.services.finished == ["create"]
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_a_create_goes_on_when_its_caller_cancels_or_vanishes(agent, within, until):
    async def run():
        async with agent(limits=Limits(sweep_interval=0.02)) as a:
            async with a.raw() as raw:
                await raw.request(1, "create_kernel", SLOW)
                await a.services.entered.wait()
                await raw.send(frames.encode_cancel(1))
                assert await raw.proves_alive()
            await until(lambda: a.server.counters.vanished)
            assert a.server.in_flight == 1
            a.services.release.set()
            await within(a.services.left.wait())
            assert a.services.finished == ["create"]

    asyncio.run(run())


def test_cancelling_the_callers_task_ends_the_waiting_in_the_agent(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            task = asyncio.create_task(client.wait_kernel("k1", ["RUNNING"]))
            await within(a.services.entered.wait())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await within(a.services.left.wait())

    asyncio.run(run())


def test_beyond_a_clients_bound_requests_are_refused_with_a_time_to_wait(agent, until):
    async def run():
        limits = Limits(in_flight_of_peer=3, retry_after=0.1)
        async with agent(limits=limits) as a, a.client() as client, a.client() as other:
            waits = [asyncio.create_task(client.wait_kernel("k1", ["X"])) for _ in range(3)]
            await until(lambda: a.server.in_flight == 3)
            with pytest.raises(Busy) as caught:
                await client.destroy_kernel("k1")
            assert caught.value.details == {"retry_after": 0.1}
            assert a.server.counters.refused == {"busy": 1}
            assert await other.ping("still") == "still"
            with pytest.raises(Busy):
                await client.ping()
            assert a.server.counters.refused == {"busy": 3}  # what only reads is asked twice
            a.services.release.set()
            await asyncio.gather(*waits)
            assert await client.ping("again") == "again"

    asyncio.run(run())


def test_what_only_reads_waits_as_long_as_a_busy_agent_says_and_is_then_answered(agent, until):
    async def run():
        limits = Limits(in_flight_of_peer=1, retry_after=0.2)
        async with agent(limits=limits) as a, a.client() as client:
            wait = asyncio.create_task(client.wait_kernel("k1", ["X"]))
            await until(lambda: a.server.in_flight == 1)
            ping = asyncio.create_task(client.ping("patient"))
            await until(lambda: a.server.counters.refused)
            a.services.release.set()
            await wait
            assert await ping == "patient"
            assert a.server.counters.refused == {"busy": 1}

    asyncio.run(run())


@pytest.mark.parametrize("retry_after", [0.5, 1e9, -1, None])
def test_a_busy_agent_cannot_make_a_caller_wait_beyond_its_time(agent, until, retry_after):
    async def run():
        limits = Limits(in_flight_of_peer=1, retry_after=retry_after)
        async with agent(limits=limits) as a, a.client() as client:
            wait = asyncio.create_task(client.wait_kernel("k1", ["X"]))
            await until(lambda: a.server.in_flight == 1)
            with pytest.raises(Busy):
                await client.ping(timeout=0.4)
            assert a.server.counters.refused == {"busy": 1}
            a.services.release.set()
            await wait

    asyncio.run(run())


def test_the_last_places_are_for_those_on_this_machine(agent, until):
    async def run():
        limits = Limits(in_flight=3, in_flight_kept=1, retry_after=60)
        tcp = TcpAddress("127.0.0.1", 0, insecure=True)
        async with AsyncExitStack() as stack:
            a = await stack.enter_async_context(agent(limits=limits, tcp=tcp))
            far = await stack.enter_async_context(AgentClient(a.server.addresses[1]))
            near = await stack.enter_async_context(a.client())
            waits = [asyncio.create_task(far.wait_kernel("k1", ["X"])) for _ in range(2)]
            await until(lambda: a.server.in_flight == 2)
            with pytest.raises(Busy):
                await far.ping()
            waits.append(asyncio.create_task(near.wait_kernel("k1", ["X"])))
            await until(lambda: a.server.in_flight == 3)
            a.services.release.set()
            await asyncio.gather(*waits)

    asyncio.run(run())


def test_beyond_the_bound_of_all_clients_everybody_is_refused(agent, until):
    async def run():
        async with (
            agent(limits=Limits(in_flight=2, retry_after=60)) as a,
            a.client() as one,
            a.client() as two,
        ):
            waits = [asyncio.create_task(c.wait_kernel("k1", ["X"])) for c in (one, two)]
            await until(lambda: a.server.in_flight == 2)
            with pytest.raises(Busy, match="2 of all clients"):
                await one.ping()
            a.services.release.set()
            await asyncio.gather(*waits)

    asyncio.run(run())


def test_a_repeated_request_is_answered_once(agent):
    async def run():
        async with agent() as a, a.raw() as raw:
            for _ in range(3):
                await raw.request(5, "ping", {"text": "once"})
            assert await raw.receive() == frames.Reply(5, {"text": "once"})
            assert await raw.proves_alive()
            await raw.request(6, "wait_kernel", WAIT)
            for request_id in range(100, 500):  # beyond what is remembered
                await raw.request(request_id)
                await raw.receive()
            await raw.request(6, "wait_kernel", WAIT)
            assert await raw.proves_alive(1 << 41)
            assert a.server.counters.duplicates == 3
            assert a.server.in_flight == 1

    asyncio.run(run())


def test_a_service_whose_work_is_cancelled_under_it_still_answers(agent):
    async def run():
        async with agent() as a, a.client() as client:

            async def cancelled(kernel_id):
                raise asyncio.CancelledError

            a.services.show = cancelled
            with pytest.raises(InternalError, match="was cancelled in the agent"):
                await client.get_kernel_status("k1")
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_stopping_ends_what_looks_and_finishes_what_works(agent, within, until):
    async def run():
        async with agent() as a, a.client() as client:
            create = asyncio.create_task(client.create_kernel(SLOW["spec"]))
            await within(a.services.entered.wait())
            follow = asyncio.create_task(anext(client.get_logs("k1", follow=True)))
            await within(follow)
            wait = asyncio.create_task(client.call("wait_kernel", WAIT, timeout=None))
            await until(lambda: a.server.in_flight == 2)
            stop = asyncio.create_task(a.server.stop(grace=5))
            await asyncio.sleep(0.05)
            assert not stop.done()
            with pytest.raises(AgentUnreachable, match="stopping"):
                await client.destroy_kernel("k1")
            a.services.release.set()
            assert (await within(create)).kernel_id == "k2"
            with pytest.raises(AgentUnreachable):
                await within(wait)
            await within(stop)
            assert not a.path.exists()
            assert a.server.addresses == ()

    asyncio.run(run())


def test_stopping_does_not_wait_beyond_its_grace(agent, within):
    async def run():
        async with agent() as a, a.client() as client:
            create = asyncio.create_task(client.create_kernel(SLOW["spec"]))
            await within(a.services.entered.wait())
            await within(a.server.stop(grace=0.05), 2)
            assert a.services.left.is_set()
            assert a.services.finished == []
            with pytest.raises(AgentUnreachable):
                await within(create)

    asyncio.run(run())
