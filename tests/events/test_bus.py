"""Watching events: durable ones exactly once and in order, progress as far as it is kept."""

import asyncio

import pytest

from agent_core.contracts.errors import InvalidArgument
from agent_core.events.bus import EventBus
from agent_core.ledger import Commit, Ledger

TELL = Commit("test-tell", "an event of a test")
DEADLINE = 10


def with_bus(tmp_path, body):
    async def main(ledger):
        bus = EventBus(ledger)

        async def tell(name, kernel="k"):
            event = await ledger.write(TELL, lambda tx: tx.add_event(name, 1.0, kernel_id=kernel))
            bus.published([event])
            return event.id

        async with asyncio.timeout(DEADLINE):
            return await body(bus, tell)

    ledger = Ledger(tmp_path / "ledger.db")
    ledger.open()
    try:
        return asyncio.run(main(ledger))
    finally:
        ledger.close()


def watch(bus, kernel="k", *, since=None, follow=False, progress=False):
    return bus.watch(kernel, since=since, follow=follow, progress=progress)


def test_retained_events_come_in_order_and_the_stream_ends(tmp_path):
    async def body(bus, tell):
        for name in "abc":
            await tell(name)
        await tell("other", "k2")
        return [item.name async for item in watch(bus)], [i.name async for i in watch(bus, None)]

    assert with_bus(tmp_path, body) == (["a", "b", "c"], ["a", "b", "c", "other"])


def test_a_watcher_goes_on_from_the_last_event_it_saw(tmp_path):
    async def body(bus, tell):
        await tell("a")
        seen = await tell("b")
        await tell("c")
        return [item.name async for item in watch(bus, since=seen)]

    assert with_bus(tmp_path, body) == ["c"]


def test_following_yields_what_happens_later_and_only_of_its_kernel(tmp_path):
    async def body(bus, tell):
        await tell("a")
        stream = watch(bus, follow=True)
        names = [(await anext(stream)).name]
        later = asyncio.ensure_future(anext(stream))
        await tell("other", "k2")
        await tell("b")
        names.append((await later).name)
        await stream.aclose()
        return names, bus._watchers

    assert with_bus(tmp_path, body) == (["a", "b"], set())


def test_a_watcher_that_never_reads_costs_nothing_and_misses_nothing(tmp_path):
    async def body(bus, tell):
        stream = watch(bus, follow=True)
        first = asyncio.ensure_future(anext(stream))
        for number in range(1200):
            await tell(str(number))
        names = [(await first).name]
        names += [(await anext(stream)).name for _ in range(1199)]
        await stream.aclose()
        return names

    assert with_bus(tmp_path, body) == [str(number) for number in range(1200)]


def test_progress_of_something_unsettled_reaches_who_comes_late(tmp_path):
    async def body(bus, tell):
        bus.progress("kernel.step", "k", "s", {"step": "image"})
        stream = watch(bus, follow=True, progress=True)
        late = (await anext(stream)).data
        bus.settled("k")
        other = watch(bus, progress=True)
        return late, [item async for item in other], await stream.aclose()

    assert with_bus(tmp_path, body)[:2] == ({"step": "image"}, [])


def test_progress_is_bounded_and_the_newest_is_kept(tmp_path):
    async def body(bus, tell):
        for number in range(1000):
            bus.progress("kernel.step", "k", "s", {"n": number})
        return [item.data["n"] async for item in watch(bus, progress=True)]

    numbers = with_bus(tmp_path, body)
    assert len(numbers) == 256
    assert numbers[-1] == 999


def test_who_does_not_want_progress_gets_none(tmp_path):
    async def body(bus, tell):
        bus.progress("kernel.step", "k", "s", {})
        await tell("a")
        return [item.name async for item in watch(bus)]

    assert with_bus(tmp_path, body) == ["a"]


def test_a_position_that_is_no_event_is_refused(tmp_path):
    async def body(bus, tell):
        with pytest.raises(InvalidArgument, match="not the id of an event"):
            await anext(watch(bus, since="yesterday"))
        return True

    assert with_bus(tmp_path, body)


@pytest.mark.parametrize("since", ["x-\u00b2", "x-" + "9" * 40])
def test_a_position_beyond_all_numbers_is_refused_too(tmp_path, since):
    async def body(bus, tell):
        with pytest.raises(InvalidArgument, match="not the id of an event"):
            await anext(watch(bus, since=since))
        return True

    assert with_bus(tmp_path, body)


def test_a_clock_that_is_set_back_does_not_change_the_order_of_events(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.open()

    async def main():
        bus = EventBus(ledger)
        for name, at in (("a", 9.0), ("b", 5.0), ("c", 7.0)):
            await ledger.write(TELL, lambda tx, n=name, t=at: tx.add_event(n, t, kernel_id="k"))
        bus.progress("step", "k", "s", {})
        return [item.name async for item in watch(bus, progress=True)]

    try:
        names = asyncio.run(main())
    finally:
        ledger.close()
    assert [name for name in names if name != "step"] == ["a", "b", "c"]


def test_watchers_look_again_when_nobody_knows_what_was_told(tmp_path):
    async def body(bus, tell):
        stream = watch(bus, follow=True)
        waiting = asyncio.ensure_future(anext(stream))
        await bus._ledger.write(TELL, lambda tx: tx.add_event("a", 1.0, kernel_id="k"))
        bus.wake("k")
        name = (await waiting).name
        await stream.aclose()
        return name

    assert with_bus(tmp_path, body) == "a"
