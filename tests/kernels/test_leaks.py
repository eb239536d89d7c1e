"""Leaks: what exists without a hold, what is held without its thing, and nothing else."""

import asyncio

import pytest

from agent_core.contracts.errors import PluginTimeout
from agent_core.ledger import Commit

LOST = Commit("test-holds-lost", "holds are lost")

CONTAINER = "t.k.1.main.0"


async def found(world):
    return {(leak.kind, leak.key) for leak in await world.leaks()}


def test_a_running_kernel_is_no_leak(live):
    async def body(world):
        await world.running()
        assert await world.leaks() == []

    live(body)


@pytest.mark.parametrize("method", ["inspect_image", "scratch", "create", "created", "start"])
def test_what_is_being_taken_or_given_back_is_no_leak(live, method):
    async def body(world):
        gate = world.script.gate(method)
        await world.create()
        await gate.reached.wait()
        assert await world.leaks() == []
        gate.open()
        await world.kernels.wait("k", ["RUNNING"])
        gate = world.script.gate("destroy")
        await world.kernels.destroy("k", "tired")
        await gate.reached.wait()
        assert await world.leaks() == []

    live(body)


def test_what_nobody_holds_is_found_whatever_its_kind(live):
    async def body(world):
        await world.running()
        await world.ledger.write(LOST, lambda tx: tx.drop_holds(tx.holds()))
        kinds = [kind for kind, _ in await found(world)]
        assert sorted(kinds) == [*["claim"] * 3, "container", *["device"] * 3, "run-dir", "scratch"]

    live(body)


def test_a_container_that_vanished_is_found(live):
    async def body(world):
        await world.running()
        world.backend.lose(CONTAINER)
        assert await found(world) == {("container", CONTAINER)}

    live(body)


@pytest.mark.parametrize("kind", ["scratch", "run-dir"])
def test_what_a_running_kernel_holds_and_what_is_not_there_is_found(live, kind):
    async def body(world):
        owner = await world.running()
        path = world.scratch.root / "k" if kind == "scratch" else owner.build.run_dir
        path.rename(world.root / "aside")
        [leak] = await world.leaks()
        assert (leak.kind, leak.kernel_id) == (kind, "k")
        [mended] = await world.mending.mend()
        assert mended.outcome == "left"
        assert "until it is destroyed" in mended.because
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"

    live(body, stranger_grace=0.0)


def test_a_plugin_that_answers_nonsense_hides_nothing_of_the_others(live):
    async def body(world):
        world.fakes[0].prepared = lambda: 5
        world.fakes[1].prepared = lambda: [[], "stray", None]
        assert await found(world) == {("device", "stray")}

    live(body)


def test_a_backend_that_does_not_answer_is_an_error_and_not_silence(live):
    async def body(world):
        world.script.gate("list")
        with pytest.raises(PluginTimeout, match="list"):
            await asyncio.shield(world.leaks())

    live(body, call_timeout=0.05)
