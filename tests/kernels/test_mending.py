"""Leaks are mended when somebody asks: what is ours and old goes back, all else is told why not."""

import asyncio

from agent_core.contracts.amount import Amount
from agent_core.host.worker_process import WorkerProcess
from agent_core.kernels.sightings import listed
from agent_core.kernels.survey import survey
from agent_core.ledger import Commit

LOST = Commit("test-mended-rows-lost", "rows are lost")


async def mend(world):
    return {(row.kind, row.key): (row.outcome, row.because) for row in await world.mending.mend()}


def outcomes(mended):
    return {name: outcome for name, (outcome, _) in mended.items()}


async def forget(world, *statements):
    def work(tx):
        for statement in statements:
            tx._db.execute(statement)

    await world.ledger.write(LOST, work)


def test_with_nothing_to_mend_nobody_is_asked_for_anything(live):
    async def body(world):
        await world.running()
        before = list(world.script.calls)
        assert await mend(world) == {}
        assert world.script.calls[len(before) :] == [("list", None)]

    live(body, stranger_grace=0.0)


def test_all_that_a_lost_kernel_has_left_goes_in_one_go_and_a_second_time_is_fine(live):
    async def body(world):
        await world.running()
        await forget(world, "DELETE FROM holds", "DELETE FROM kernels")
        await world.crash()
        await world.start()
        mended = await mend(world)
        devices = {name for name in mended if name[0] == "device"}
        given = {name for name, outcome in outcomes(mended).items() if outcome == "given-back"}
        assert {kind for kind, _ in given} == {"container", "scratch", "run-dir"}
        assert {mended[name] for name in devices} == {
            ("left", "nothing proves that it is this agent's")
        }
        assert set(await mend(world)) == devices
        assert world.backend.specs == {}

    live(body, stranger_grace=0.0)


def test_prepared_devices_of_a_kernel_that_has_ended_are_released(live):
    async def body(world):
        await world.running()
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.idle()
        world.fakes[0].held.add("k.1.aa")
        assert outcomes(await mend(world)) == {("device", "k.1.aa"): "given-back"}
        assert world.fakes[0].held == set()

    live(body, stranger_grace=0.0)


def test_what_is_fresh_or_of_a_living_kernel_is_left_and_says_so(live):
    async def body(world):
        await world.running()
        (world.scratch.root / "lost").mkdir()
        await forget(world, "DELETE FROM holds WHERE kind = 'scratch'")
        mended = await mend(world)
        assert mended["scratch", "k"] == ("left", "its kernel k has not ended")
        assert mended["scratch", "lost"] == ("left", "it has been seen for 0 s of 300 s")
        assert (world.scratch.root / "k").is_dir()

    live(body)


def test_a_kernel_whose_container_is_gone_is_ended(live):
    async def body(world):
        await world.running()
        world.backend.lose("t.k.1.main.0")
        assert outcomes(await mend(world)) == {("container", "t.k.1.main.0"): "ending"}
        assert (await world.ended()).reason == "container-not-found"
        await world.clean()

    live(body)


def test_what_its_owner_is_still_giving_back_is_left_to_it(live):
    async def body(world):
        await world.running()
        world.script.fail("release bb")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        mended = await mend(world)
        assert outcomes(mended) == {("device", "k.1.bb"): "left", ("claim", "k.1.bb"): "left"}
        assert all("tried again" in because for _, because in mended.values())
        world.script.heal()
        await world.clean()

    live(body, stranger_grace=0.0)


def test_a_claim_that_nobody_holds_any_more_is_free_again_and_a_log_without_a_kernel_goes(live):
    async def body(world):
        await world.running()
        world.backend.end("t.k.1.main.0")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.idle()
        world.allocator.reserve("lost", 1, {"aa.unit": Amount(1)})
        assert await world.services.logs.kernel_ids() == ["k"]
        assert outcomes(await mend(world)) == {("claim", "lost.1.aa"): "given-back"}
        assert world.allocator.claims() == ()
        await forget(world, "DELETE FROM outbox", "DELETE FROM kernels")
        assert outcomes(await mend(world)) == {("log", "k"): "given-back"}
        assert await world.services.logs.kernel_ids() == []

    live(body, stranger_grace=0.0)


def test_a_port_that_the_pool_gave_and_nobody_holds_is_taken_back(live):
    async def body(world):
        [port] = world.services.ports.take("lost", 1)
        assert outcomes(await mend(world)) == {("port", str(port)): "given-back"}
        assert world.services.ports.held == {}

    live(body, stranger_grace=0.0)


def test_a_claim_is_not_free_while_its_plugin_does_not_say_what_is_prepared(live):
    async def body(world):
        world.allocator.reserve("lost", 1, {"aa.unit": Amount(1)})
        world.fakes[0].prepared = lambda: 1 / 0
        assert await mend(world) == {
            ("claim", "lost.1.aa"): ("left", "nobody can tell whether it is there")
        }
        world.fakes[0].prepared = lambda: ["lost.1.aa"]
        assert (await mend(world))["claim", "lost.1.aa"][0] == "left"
        world.fakes[0].prepared = list
        assert outcomes(await mend(world)) == {("claim", "lost.1.aa"): "given-back"}

    live(body, stranger_grace=0.0)


def test_one_that_fails_keeps_no_other_and_is_said_to_have_failed(live):
    async def body(world):
        for kernel in ("a", "b"):
            (world.scratch.root / kernel).mkdir()
        world.script.fail("destroy", kernel="a")
        mended = await mend(world)
        assert outcomes(mended) == {("scratch", "a"): "failed", ("scratch", "b"): "given-back"}
        assert "no destroy today" in mended["scratch", "a"][1]

    live(body, stranger_grace=0.0)


def test_two_that_mend_at_once_do_it_once(live):
    async def body(world):
        (world.scratch.root / "lost").mkdir()
        results = await asyncio.gather(mend(world), mend(world))
        assert sorted(len(result) for result in results) == [0, 1]
        assert world.script.made("destroy") == ["destroy"]
        assert await survey(world.services, await listed(world.services)) == []

    live(body, stranger_grace=0.0)


def test_a_worker_that_nobody_keeps_is_found_and_ended(live):
    async def body(world):
        worker = WorkerProcess("the acme plugin", "acme", ["control"])
        try:
            while not (leaks := await world.leaks()):
                pass  # for a moment after its start a process has no command line
            [leak] = leaks
            assert (leak.kind, leak.detail) == ("worker", "of plugin acme")
            assert outcomes(await mend(world)) == {("worker", leak.key): "given-back"}
            assert await world.leaks() == []
        finally:
            worker.end()

    live(body, stranger_grace=0.0)
