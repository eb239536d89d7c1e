"""Giving back: nothing is free before it is proven given back, and what fails is tried again."""

import sqlite3

import pytest

from agent_core.ledger import sums

CONTAINER = "t.k.1.main.0"


def test_a_container_that_cannot_be_removed_keeps_everything_held(live):
    async def body(world):
        await world.running()
        world.script.fail("remove")
        await world.kernels.destroy("k", "tired")
        await world.held_as("dirty", "container", CONTAINER)
        holds = await world.holds()
        assert {kind for kind, _ in holds} == {"claim", "scratch", "run-dir", "device", "container"}
        assert (await world.row()).state == "TERMINATING"
        assert [fake.held for fake in world.fakes] == [{"k.1.aa"}, {"k.1.bb"}, {"k.1.cc"}]
        assert len(world.allocator.claims()) == 3
        assert [(leak.kind, leak.state) for leak in await world.leaks()] == [("container", "dirty")]
        world.script.heal()
        assert (await world.ended()).reason == "tired"
        await world.clean()

    live(body)


@pytest.mark.parametrize("presence", ["present", "unknown"])
def test_a_container_is_gone_only_when_a_look_confirms_it(live, presence):
    async def body(world):
        await world.running()
        removed = world.backend.remove

        async def remove_nothing(name):
            await world.script.on("remove", "k")

        if presence == "unknown":
            world.backend.unknown.add(CONTAINER)
        else:
            world.backend.remove = remove_nothing
        await world.kernels.destroy("k", "tired")
        await world.held_as("dirty", "container", CONTAINER)
        assert not world.script.made("release aa", "destroy")
        (leak,) = await world.leaks()
        assert f"is {presence} after its removal" in leak.detail
        world.backend.remove = removed
        world.backend.unknown.clear()
        await world.ended()
        await world.clean()

    live(body)


def test_a_device_that_cannot_be_released_stays_held_with_its_claim_until_it_can(live):
    async def body(world):
        await world.running()
        world.script.fail("release bb")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        assert await world.holds() == {("device", "k.1.bb"): "dirty", ("claim", "k.1.bb"): "dirty"}
        assert [claim.id for claim in world.allocator.claims()] == ["k.1.bb"]
        leaks = {(leak.kind, leak.key): leak.detail for leak in await world.leaks()}
        assert leaks.keys() == {("device", "k.1.bb"), ("claim", "k.1.bb")}
        assert "no release bb today" in leaks["device", "k.1.bb"]
        tries = len(world.script.made("release bb"))
        await world.called("release bb", tries + 2)
        world.script.heal()
        await world.clean()

    live(body)


def test_what_is_dirty_is_not_given_to_another_kernel(live):
    async def body(world):
        await world.running()
        world.script.fail("release bb")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        with pytest.raises(Exception, match=r"bb\.unit"):
            await world.create("k2")
        world.script.heal()
        await world.idle()
        await world.running("k2")

    live(body, units=1)


def test_a_scratch_that_cannot_be_destroyed_ends_the_kernel_all_the_same(live):
    async def body(world):
        await world.running()
        world.script.fail("destroy")
        await world.kernels.destroy("k", "tired")
        assert (await world.ended()).state == "TERMINATED"
        assert await world.holds() == {("scratch", "k"): "dirty"}
        assert world.allocator.claims() == ()
        assert [(leak.kind, leak.key) for leak in await world.leaks()] == [("scratch", "k")]
        world.script.heal()
        await world.clean()

    live(body)


def test_only_a_container_in_which_code_may_have_run_is_given_time_to_end(live):
    async def body(world):
        world.script.fail("verify", times=1)
        await world.create()
        assert (await world.ended()).reason == "failed-to-start"
        await world.running("k2")
        await world.kernels.destroy("k2", "tired")
        await world.ended("k2")
        assert world.backend.graces == [0, world.services.settings.stop_grace]

    live(body)


@pytest.mark.parametrize("method", ["stop", "logs"])
def test_a_container_that_does_not_stop_or_tell_is_removed_all_the_same(live, method):
    async def body(world):
        await world.running()
        world.script.fail(method)
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


@pytest.mark.parametrize("method", ["stop", "logs"])
def test_a_backend_that_hangs_while_it_is_asked_for_an_end_keeps_nothing_held(live, method):
    async def body(world):
        await world.running()
        world.script.gate(method)
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body, call_timeout=0.05, stop_grace=0.01)


def test_a_log_that_cannot_be_written_keeps_nothing_held(live):
    async def body(world):
        await world.running()
        (world.root / "logs").write_text("a file where the directory should be")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


def test_a_log_outlives_its_container(live):
    async def body(world):
        await world.running()
        await world.kernels.destroy("k", "tired")
        await world.ended()
        said = [item.data async for item in world.kernels.logs("k", follow=False)]
        assert said == [b"said"]

    live(body)


def test_a_run_directory_that_is_not_the_kernels_is_not_removed(live):
    async def body(world):
        await world.running()
        precious = world.root / "precious"
        precious.mkdir()
        await world.crash()
        with sqlite3.connect(world.root / "ledger.db") as db:
            db.execute("UPDATE holds SET key = ? WHERE kind = 'run-dir'", [str(precious)])
            sums.write_all(db)
        db.close()
        await world.start()
        await world.kernels.destroy("k", "tired")
        await world.ended()
        assert precious.is_dir()
        assert await world.holds() == {("run-dir", str(precious)): "dirty"}

    live(body)


def test_a_ledger_that_fails_while_the_dirty_is_cleaned_frees_the_claim_all_the_same(
    live, fail_commit
):
    async def body(world):
        await world.running()
        hits = fail_commit("commit.holds-cleaned.after", 1)
        world.script.fail("release bb", times=1)
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()
        assert hits["commit.holds-cleaned.after"] == 1

    live(body)
