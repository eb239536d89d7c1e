"""Deadlines, bounds, repeated requests, and a graceful stop."""

import asyncio

import pytest

from agent_core.contracts.errors import AgentUnreachable, Busy, DeadlineExceeded, InternalError
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
        limits = Limits(in_flight_of_peer=3, retry_after=0.7)
        async with agent(limits=limits) as a, a.client() as client, a.client() as other:
            waits = [asyncio.create_task(client.wait_kernel("k1", ["X"])) for _ in range(3)]
            await until(lambda: a.server.in_flight == 3)
            with pytest.raises(Busy) as caught:
                await client.ping()
            assert caught.value.details == {"retry_after": 0.7}
            assert await other.ping("still") == "still"
            a.services.release.set()
            await asyncio.gather(*waits)
            assert await client.ping("again") == "again"
            assert a.server.counters.refused == {"busy": 1}

    asyncio.run(run())


def test_beyond_the_bound_of_all_clients_everybody_is_refused(agent, until):
    async def run():
        async with agent(limits=Limits(in_flight=2)) as a, a.client() as one, a.client() as two:
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
