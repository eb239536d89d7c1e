"""Restarts: a new incarnation on what is kept, whatever fails, ends or crashes meanwhile."""

import asyncio

import pytest

from agent_core.contracts.errors import LedgerFailed, WrongState
from agent_core.ledger import HoldState

from .conftest import until

FIRST, SECOND = "t.k.1.main.0", "t.k.2.main.0"
STEPS = ["inspect_image", "scratch", "prepare bb", "create", "start", "verify"]


async def restarted(world, kernel_id="k", incarnation=2):
    """Wait until a restart is complete and return the row of the ledger."""
    while (await world.kernels.wait(kernel_id, ["RUNNING"])).incarnation < incarnation:
        await world.owners.get(kernel_id).changed()
    return await world.row(kernel_id)


async def whole(world):
    """Assert that the second incarnation runs on what the first one had."""
    row = await restarted(world)
    assert (row.state, row.incarnation, row.container) == ("RUNNING", 2, SECOND)
    assert (row.reason, row.exit_code) == (None, None)
    assert [*world.backend.specs] == [SECOND]
    assert set((await world.holds()).values()) == {"held"}
    assert all(len(fake.held) == 1 for fake in world.fakes)
    assert len(world.allocator.claims()) == 3
    assert await world.leaks() == []
    await world.kernels.destroy("k", "tired")
    assert (await world.ended()).reason == "tired"
    await world.clean()


def test_a_restart_replaces_the_container_and_keeps_the_rest(live):
    async def body(world):
        await world.running()
        claims = world.allocator.claims()
        row = await world.kernels.restart("k", None)
        assert (row.state, row.incarnation) == ("RESTARTING", 2)
        await restarted(world)
        assert world.allocator.claims() == claims
        assert not world.script.made("release aa", "release bb", "release cc", "destroy")
        assert (await world.event_names())[2:] == ["kernel.restarting", "kernel.running"]
        await whole(world)

    live(body)


def test_the_end_of_the_old_container_is_no_end_of_the_kernel(live):
    async def body(world):
        await world.running()
        following = asyncio.ensure_future(world.watching.follow())
        looking = asyncio.ensure_future(world.watching.look())
        await asyncio.sleep(0)
        await world.kernels.restart("k", None)
        await restarted(world)
        assert [event.name for event in world.backend.told] == [FIRST]
        await world.reconciler.look()
        await whole(world)
        following.cancel()
        looking.cancel()

    live(body)


def test_the_timings_of_a_restart_take_the_place_of_those_of_the_create(live):
    async def body(world):
        await world.running()
        before = (await world.row()).timings
        await world.kernels.restart("k", None)
        after = (await restarted(world)).timings
        assert [step for step, _, _ in after] == [step for step, _, _ in before]
        assert after != before

    live(body)


def test_what_a_kernel_runs_is_told_of_its_restart(live):
    async def body(world):
        owner = await world.running()
        waiting = asyncio.ensure_future(owner.build.runs.complete("r", "x", 1))
        await until(lambda: owner.build.runs._runs)
        await world.kernels.restart("k", None)
        with pytest.raises(Exception, match="is being restarted") as caught:
            await waiting
        assert caught.value.retryable
        await whole(world)

    live(body)


# ---- asked how and when ------------------------------------------------------------------------


def test_a_restart_that_is_asked_for_three_times_is_one(live):
    async def body(world):
        await world.running()
        rows = await asyncio.gather(*(world.kernels.restart("k", 1) for _ in range(3)))
        assert [row.incarnation for row in rows] == [2, 2, 2]
        await restarted(world)
        assert (await world.kernels.restart("k", 1)).state == "RUNNING"
        assert (await world.row()).incarnation == 2
        await whole(world)

    live(body)


def test_only_what_runs_can_be_restarted(live):
    async def body(world):
        gate = world.script.gate("create")
        await world.create()
        await gate.reached.wait()
        with pytest.raises(WrongState, match="is PREPARING"):
            await world.kernels.restart("k", None)
        gate.open()
        await world.kernels.destroy("k", "tired")
        await world.ended()
        with pytest.raises(WrongState, match="is TERMINATED"):
            await world.kernels.restart("k", None)
        await world.clean()

    live(body)


def test_a_kernel_that_is_to_end_as_well_ends(live):
    async def body(world):
        await world.running()
        asked = asyncio.ensure_future(world.kernels.restart("k", None))
        await asyncio.sleep(0)
        ending = asyncio.ensure_future(world.kernels.destroy("k", "tired"))
        await asyncio.sleep(0)
        with pytest.raises(WrongState, match="is ending: tired"):
            await asked
        await ending
        assert (await world.ended()).incarnation == 1
        await world.clean()

    live(body)


def test_a_restart_that_cannot_be_recorded_is_refused_and_the_kernel_runs_on(live, fail_commit):
    async def body(world):
        await world.running()
        fail_commit("commit.kernel-restarting.before", 1)
        with pytest.raises(LedgerFailed, match="no space left"):
            await world.kernels.restart("k", None)
        assert [*world.backend.specs] == [FIRST]
        assert (await world.kernels.wait("k", ["RUNNING"])).incarnation == 1
        await world.kernels.restart("k", None)
        await whole(world)

    live(body)


def test_a_kernel_that_an_earlier_agent_made_is_restarted(live):
    async def body(world):
        await world.running()
        await world.crash()
        await world.start()
        await world.kernels.restart("k", None)
        await whole(world)

    live(body)


def test_a_kernel_is_restarted_again_and_again(live):
    async def body(world):
        await world.running()
        for number in range(1, 5):
            await world.kernels.restart("k", number)
            await restarted(world, incarnation=number + 1)
        assert [*world.backend.specs] == ["t.k.5.main.0"]
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


# ---- it fails, or ends -------------------------------------------------------------------------


@pytest.mark.parametrize("method", STEPS)
def test_a_step_that_fails_ends_the_kernel_and_everything_is_given_back(live, method):
    async def body(world):
        await world.running()
        world.script.fail(method)
        await world.kernels.restart("k", None)
        row = await world.ended()
        assert row.reason == "failed-to-restart"
        assert f"no {method} today" in row.message
        await world.clean()

    live(body)


@pytest.mark.parametrize("method", ["remove", "stop", *STEPS])
def test_a_destroy_in_the_middle_of_a_restart_ends_the_kernel_for_that_reason(live, method):
    async def body(world):
        await world.running()
        gate = world.script.gate(method)
        await world.kernels.restart("k", None)
        await gate.reached.wait()
        asked = asyncio.ensure_future(world.kernels.destroy("k", "tired"))
        await asyncio.sleep(0)
        world.script.open_all()
        assert (await asked).reason == "tired"
        assert (await world.ended()).reason == "tired"
        await world.clean()

    live(body)


def test_a_container_that_cannot_be_removed_keeps_the_restart_waiting_and_visible(live):
    async def body(world):
        await world.running()
        world.script.fail("remove")
        await world.kernels.restart("k", None)
        await world.held_as(HoldState.DIRTY, "container", FIRST)
        assert (await world.row()).state == "RESTARTING"
        assert not world.script.made("create")[1:]
        world.script.heal()
        await whole(world)

    live(body)


def test_a_kernel_whose_container_cannot_be_removed_can_still_be_told_to_end(live):
    async def body(world):
        await world.running()
        world.script.fail("remove")
        await world.kernels.restart("k", None)
        await world.held_as(HoldState.DIRTY, "container", FIRST)
        assert (await world.kernels.destroy("k", "tired")).state == "TERMINATING"
        world.script.heal()
        assert (await world.ended()).reason == "tired"
        await world.clean()

    live(body)


def test_a_new_container_that_ends_before_its_runner_connects_fails_the_restart(live):
    async def body(world):
        await world.running()
        following = asyncio.ensure_future(world.watching.follow())
        world.backend.mute = True
        await world.kernels.restart("k", None)
        await world.step("runner")
        world.backend.end(SECOND, 3)
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("failed-to-restart", 3)
        following.cancel()
        await world.clean()

    live(body)


# ---- the agent ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["crash", "stop"])
@pytest.mark.parametrize("method", ["stop", "remove", *STEPS, "created"])
def test_the_next_agent_completes_a_restart(live, method, ends):
    async def body(world):
        await world.running()
        gate = world.script.gate(method)
        await world.kernels.restart("k", None)
        await gate.reached.wait()
        if ends == "crash":
            world.script.open_all()
        await getattr(world, ends)()
        await world.start()
        await whole(world)

    live(body)


@pytest.mark.parametrize("late", [False, True])
def test_the_end_of_a_namesake_that_the_next_agent_gave_back_is_no_end_of_the_kernel(live, late):
    async def body(world):
        await world.running()
        gate = world.script.gate("verify")
        await world.kernels.restart("k", None)
        await gate.reached.wait()
        await world.crash()  # the second container runs, and the next agent makes it once more
        stop, news = world.script.gate("stop"), world.script.gate("next_event")
        gate = world.script.gate("verify")
        await world.start()
        following = asyncio.ensure_future(world.watching.follow())
        await world.called("events", 1)
        if not late:
            news.open()
        stop.open()
        await gate.reached.wait()
        looked = len(world.script.made("inspect"))
        news.open()
        if late:
            await world.called("inspect", looked + 1)
        gate.open()
        await whole(world)
        following.cancel()

    live(body)


@pytest.mark.parametrize("removed", [False, True])
def test_an_end_that_is_told_of_a_restart_is_looked_at_and_believed(live, removed):
    async def body(world):
        await world.running()
        following = asyncio.ensure_future(world.watching.follow())
        world.backend.mute = True
        await world.kernels.restart("k", None)
        await world.step("runner")
        world.script.fail("inspect", times=1)  # it is looked at again
        world.backend.end(SECOND, 3)
        if removed:
            world.backend.lose(SECOND)
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("failed-to-restart", 3)
        following.cancel()
        await world.clean()

    live(body)


@pytest.mark.parametrize("commit", ["kernel-restarting", "hold-replaced", "holds-taking"])
def test_a_ledger_that_fails_during_a_restart_ends_in_a_kernel_that_runs_or_is_gone(
    live, fail_commit, commit
):
    async def body(world):
        await world.running()
        fail_commit(f"commit.{commit}.after", 1, 2)
        await asyncio.gather(world.kernels.restart("k", None), return_exceptions=True)
        row = await world.kernels.wait("k", ["RUNNING"])
        if row.state == "TERMINATED":
            assert row.reason == "failed-to-restart"
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)
