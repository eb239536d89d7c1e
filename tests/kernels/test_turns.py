"""How many kernels are built at once is bounded; how many are accepted is not."""

from __future__ import annotations

import asyncio

from agent_core.kernels.turns import Turns

from .conftest import SLOTS, until


def test_more_creates_than_turns_are_accepted_and_wait(live):
    async def body(world):
        world.services.turns.allow(1)
        gate = world.script.gate("create")
        await world.create("a")
        await gate.reached.wait()
        await world.create("b")
        await world.create("c")
        assert [(await world.row(k)).state for k in "abc"] == ["PREPARING"] * 3
        assert world.script.made("create") == ["create"]
        gate.open()
        for kernel in "abc":
            assert (await world.kernels.wait(kernel, ["RUNNING"])).state == "RUNNING"
        assert world.services.turns.taken == 0

    live(body)


def test_a_kernel_that_is_destroyed_while_it_waits_ends_without_a_turn(live):
    async def body(world):
        world.services.turns.allow(1)
        gate = world.script.gate("create")
        await world.create("a")
        await gate.reached.wait()
        await world.create("b", slots=SLOTS)
        await world.kernels.destroy("b", "tired")
        await world.ended("b")
        gate.open()
        assert (await world.kernels.wait("a", ["RUNNING"])).state == "RUNNING"
        assert world.services.turns.taken == 0

    live(body)


def test_turns_are_given_in_order_and_another_number_counts_at_once():
    async def body():
        turns, order, go = Turns(1), [], asyncio.Event()
        never = asyncio.get_running_loop().create_future()

        async def one(name):
            async with turns.one(never):
                order.append(name)
                await go.wait()

        tasks = [asyncio.ensure_future(one(name)) for name in "abcd"]
        await until(lambda: order == ["a"])
        tasks[1].cancel()
        turns.allow(2)
        await until(lambda: len(order) == 2)
        assert order == ["a", "c"]
        turns.allow(None)
        await until(lambda: len(order) == 3)
        go.set()
        await asyncio.wait(tasks)
        assert (order, turns.taken) == (["a", "c", "d"], 0)

    asyncio.run(body())
