"""Ends of containers are noticed, also those that the backend's events did not tell."""

import asyncio
import contextlib

import pytest

CONTAINER = "t.k.1.main.0"


@contextlib.asynccontextmanager
async def watched(world, *, look=True):
    tasks = [asyncio.ensure_future(world.watching.follow())]
    await asyncio.sleep(0)
    if look:
        tasks.append(asyncio.ensure_future(world.watching.look()))
    try:
        yield
    finally:
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("interval", [60, None])
@pytest.mark.parametrize("error", [ValueError("garbage"), asyncio.CancelledError(), OSError()])
def test_an_end_in_the_gap_of_an_interruption_is_found(live, error, interval):
    async def body(world):
        await world.running()
        async with watched(world):
            world.script.fail("next_event", error, times=1)
            world.backend.end(CONTAINER, 4, tell=False)
            world.backend.pulse.set()
            assert (await world.ended()).exit_code == 4
        await world.clean()

    live(body, look_interval=interval)


def test_events_that_go_on_after_an_interruption_are_not_lost(live):
    async def body(world):
        await world.running()
        async with watched(world, look=False):
            world.script.fail("events", times=3)
            world.script.fail("next_event", times=1)
            world.backend.end(CONTAINER, 4, tell=False)
            world.backend.pulse.set()
            await world.called("events", 5)
            world.backend.tell(CONTAINER)
            assert (await world.ended()).reason == "self-terminated"

    live(body)


def test_an_event_of_nonsense_stops_nobody(live):
    async def body(world):
        await world.running()
        async with watched(world, look=False):
            world.backend.told.append(None)
            world.backend.end(CONTAINER, 4)
            assert (await world.ended()).exit_code == 4

    live(body)


def test_a_container_that_was_removed_by_hand_ends_its_kernel(live):
    async def body(world):
        await world.running()
        async with watched(world):
            world.backend.lose(CONTAINER)
            assert (await world.ended()).reason == "container-not-found"
        await world.clean()

    live(body, look_interval=0.01)


def test_a_container_that_the_list_misses_and_a_look_finds_runs_on(live):
    async def body(world):
        await world.running()

        async def nothing(owner):
            return []

        world.backend.list = nothing
        await world.reconciler.look()
        assert not world.owners.get("k")._ending.done()
        world.backend.unknown.add(CONTAINER)
        await world.reconciler.look()
        assert not world.owners.get("k")._ending.done()

    live(body)


def test_what_was_observed_before_the_last_change_counts_for_nothing(live):
    async def body(world):
        owner = await world.running()
        world.backend.lose(CONTAINER)
        gate = world.script.gate("inspect")
        looking = asyncio.ensure_future(world.reconciler.look())
        await gate.reached.wait()
        owner._settle()
        gate.open()
        await looking
        assert not owner._ending.done()
        await world.reconciler.look()
        assert (await world.ended()).reason == "container-not-found"

    live(body)


def test_an_end_that_is_told_twice_and_late_and_seen_as_well_is_one_end(live):
    async def body(world):
        await world.running("old")
        await world.running()
        async with watched(world, look=False):
            world.backend.end(CONTAINER, 4, tell=False)
            for name in (CONTAINER, CONTAINER, "t.nobody.1.main.0"):
                world.backend.tell(name)
            await world.reconciler.look()
            assert (await world.ended()).exit_code == 4
            world.backend.tell(CONTAINER)
            await world.reconciler.look()
        assert (await world.kernels.wait("old", ["RUNNING"])).state == "RUNNING"
        await world.kernels.destroy("old", "tired")
        await world.ended("old")
        await world.clean()

    live(body)
