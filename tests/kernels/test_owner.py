"""The life of one kernel: every step can fail, block or be ended, and everything is given back."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import KernelFailed, LedgerFailed, PluginError
from agent_core.kernels.intents import Ending
from agent_core.kernels.states import Reason
from agent_core.wire.events import EVENTS

GATES = {
    "image": "inspect_image",
    "scratch": "scratch",
    "devices": "prepare bb",
    "container": "create",
    "start": "start",
    "verify": "verify",
}
STARTING = {"start", "verify", "runner"}


@pytest.mark.parametrize("step", GATES)
def test_a_failing_step_is_named_and_everything_is_given_back(live, step):
    async def body(world):
        world.script.fail(GATES[step])
        await world.create()
        row = await world.ended()
        assert row.reason == ("failed-to-start" if step in STARTING else "failed-to-create")
        assert row.message.startswith(f"step {step}: ")
        assert f"no {GATES[step]} today" in row.message
        await world.clean()

    live(body)


def test_what_is_told_of_a_kernel_has_no_data_but_what_is_declared(live):
    async def body(world):
        world.script.fail("start")
        await world.create()
        await world.ended()
        told = world.bus.watch("k", since=None, follow=False, progress=True)
        items = [item async for item in told]
        assert {item.name for item in items} >= {"kernel.preparing", "kernel.terminated"}
        for item in items:
            assert set(item.data) <= set(EVENTS[item.name].data)
            assert EVENTS[item.name].durable is (item.id is not None)

    live(body)


def test_what_is_told_of_the_steps_has_no_data_but_what_is_declared(live):
    async def body(world):
        gate = world.script.gate("start")
        await world.create()
        await gate.reached.wait()
        watch = world.bus.watch("k", since=None, follow=False, progress=True)
        items = [item async for item in watch if item.id is None]
        assert {item.data["phase"] for item in items} == {"taking", "held"}
        assert all(set(item.data) <= set(EVENTS["kernel.step"].data) for item in items)
        world.script.open_all()
        await world.kernels.destroy("k", "tired")
        await world.ended()

    live(body)


def test_a_socket_that_cannot_be_made_fails_its_step(live):
    async def body(world):
        world.options["run_root"] = world.root / ("x" * 120)
        await world.stop()
        await world.start()
        await world.create()
        assert (await world.ended()).message.startswith("step socket: ")
        await world.clean()

    live(body)


def test_a_runner_that_never_connects_fails_the_kernel(live):
    async def body(world):
        world.backend.mute = True
        await world.create()
        row = await world.ended()
        assert row.reason == "failed-to-start"
        assert row.message.startswith("step runner: the runner of kernel k did not connect")
        await world.clean()

    live(body, init_timeout=0.05)


def test_a_backend_that_does_not_answer_is_given_up_with_words(live):
    async def body(world):
        world.script.gate("inspect_image")
        await world.create()
        row = await world.ended()
        assert row.message.startswith(
            "step image: backend 'fake' is still in inspect_image() after 0.05 s"
        )
        await world.clean()

    live(body, call_timeout=0.05)


def test_a_backend_may_declare_how_long_each_of_its_calls_takes(live):
    async def body(world):
        deadlines = {"inspect_image": 0.05}
        world.backend.info = replace(world.backend.info, deadlines=deadlines)
        world.script.gate("inspect_image")
        await world.create()
        row = await world.ended()
        assert "is still in inspect_image() after 0.05 s" in row.message
        await world.clean()

    live(body, call_timeout=600)


def test_a_backend_that_gives_a_call_up_by_itself_fails_the_step(live):
    async def body(world):
        world.script.fail("create", asyncio.CancelledError())
        await world.create()
        row = await world.ended()
        assert row.message.startswith("step container: backend 'fake' gave create() up from inside")
        await world.clean()

    live(body)


def test_what_failed_but_happened_all_the_same_is_undone(live):
    async def body(world):
        world.script.fail("created")
        await world.create()
        assert (await world.ended()).reason == "failed-to-create"
        await world.clean()

    live(body)


def test_the_second_of_three_plugins_fails_and_the_first_is_released_in_reverse(live):
    async def body(world):
        world.script.fail("prepare bb")
        await world.create()
        await world.ended()
        undone = world.script.made("release aa", "release bb", "release cc", "destroy")
        assert undone == ["release cc", "release bb", "release aa", "destroy"]
        await world.clean()

    live(body)


def test_an_ended_create_keeps_its_timings(live):
    async def body(world):
        world.script.fail("start")
        await world.create()
        row = await world.ended()
        steps = [name for name, _, _ in row.timings]
        assert steps == [
            "slots",
            "image",
            "ports",
            "scratch",
            "socket",
            "devices",
            "config",
            "network",
            "container",
        ]

    live(body)


def test_warnings_of_the_create_are_in_the_row(live):
    async def body(world):
        await world.create(env={"AA_UNITS": "9"})
        row = await world.kernels.wait("k", ["RUNNING"])
        assert row.state == "RUNNING"
        assert (await world.row()).warnings == (
            "env AA_UNITS: set by plugin aa, the value asked for is not",
        )

    live(body)


def test_each_plugin_measures_what_a_kernel_holds_of_it_and_nothing_else(live):
    async def body(world):
        await world.running()
        await world.kernels.show("k")
        assert [fake.measured for fake in world.fakes] == [["aa"], ["bb"], ["cc"]]

    live(body)


# ---- ended from outside ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*GATES, "runner"])
def test_a_destroy_while_a_step_blocks_ends_the_kernel_for_that_reason(live, step):
    async def body(world):
        if step == "runner":
            world.backend.mute = True
            await world.create()
            await world.step("runner")
        else:
            gate = world.script.gate(GATES[step])
            await world.create()
            await gate.reached.wait()
        asked = asyncio.ensure_future(world.kernels.destroy("k", "tired"))
        await asyncio.sleep(0)
        again = asyncio.ensure_future(world.kernels.destroy("k", "other"))
        world.script.open_all()
        assert [(await each).reason for each in (asked, again)] == ["tired", "tired"]
        assert (await world.ended()).reason == "tired"
        assert "kernel.running" not in await world.event_names()
        await world.clean()

    live(body)


def test_work_in_a_thread_is_waited_for_before_it_is_undone(live):
    async def body(world):
        gate = world.script.gate("prepare bb")
        await world.create()
        await gate.reached.wait()
        asked = asyncio.ensure_future(world.kernels.destroy("k", "tired"))
        for _ in range(10):  # each look is behind whatever the owner had written
            assert (await world.row()).state == "PREPARING"
        assert not world.script.made("release bb", "destroy")
        gate.open()
        await asked
        await world.ended()
        assert world.script.made("prepare bb", "release bb") == ["prepare bb", "release bb"]
        await world.clean()

    live(body)


@pytest.mark.parametrize("step", ["verify", "runner"])
def test_a_container_that_ends_before_its_kernel_runs_has_failed_to_start(live, step):
    async def body(world):
        world.backend.mute = True
        gate = world.script.gate("verify")
        await world.create()
        await gate.reached.wait()
        if step == "runner":
            gate.open()
            await world.step("runner")
        world.backend.end("t.k.1.main.0", 3)
        ended = Ending(Reason.SELF_TERMINATED, None, world.backend.exits["t.k.1.main.0"])
        world.owners.of_container("t.k.1.main.0").post(ended)
        gate.open()
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("failed-to-start", 3)
        assert "with exit code 3" in row.message
        await world.clean()

    live(body)


def test_a_start_that_hangs_is_not_waited_for_by_a_destroy(live):
    async def body(world):
        gate = world.script.gate("start")
        await world.create()
        await gate.reached.wait()
        assert (await world.kernels.destroy("k", "tired")).state == "TERMINATING"
        assert (await world.ended()).reason == "tired"
        await world.clean()
        gate.open()

    live(body)


def test_a_start_that_fails_says_why_its_container_has_ended_meanwhile(live):
    async def body(world):
        gate = world.script.gate("start")
        world.script.fail("start", KernelFailed("there is no such program"))
        await world.create()
        await gate.reached.wait()
        ended = Ending(Reason.SELF_TERMINATED, None, ExitStatus(code=127))
        world.owners.of_container("t.k.1.main.0").post(ended)
        await asyncio.sleep(0)  # it is heard of before the start fails
        gate.open()
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("failed-to-start", 127)
        assert "there is no such program" in row.message
        await world.clean()

    live(body)


def test_a_kernel_that_runs_ends_once_with_its_exit_code(live):
    async def body(world):
        await world.running()
        following = asyncio.ensure_future(world.watching.follow())
        await asyncio.sleep(0)
        world.backend.end("t.k.1.main.0", 7)
        row = await world.ended()
        following.cancel()
        assert (row.reason, row.exit_code) == ("self-terminated", 7)
        assert row.message == "its main process ended with exit code 7"
        await world.clean()

    live(body)


@pytest.mark.parametrize("notices", ["follow", "look"])
def test_a_kernel_that_its_memory_limit_ends_has_that_as_its_reason(live, notices):
    async def body(world):
        await world.running()
        if notices == "look":
            world.backend.end("t.k.1.main.0", 137, oom=True, tell=False)
        noticing = asyncio.ensure_future(getattr(world.watching, notices)())
        await asyncio.sleep(0)
        if notices == "follow":
            world.backend.end("t.k.1.main.0", 137, oom=True)
        row = await world.ended()
        noticing.cancel()
        assert (row.reason, row.exit_code) == ("oom", 137)
        assert row.message == "the memory limit ended its container"
        await world.clean()

    live(body)


def test_a_kernel_that_was_destroyed_after_its_memory_limit_had_ended_it_says_both(live):
    async def body(world):
        await world.running()
        world.backend.end("t.k.1.main.0", 137, oom=True)
        await world.kernels.destroy("k", "tired")
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("tired", 137)
        assert row.message == "the memory limit ended its container"
        await world.clean()

    live(body)


def test_the_first_reason_counts(live):
    async def body(world):
        owner = await world.running()
        owner.post(Ending("first"))
        owner.post(Ending("second"))
        assert (await world.kernels.destroy("k", "third")).reason == "first"
        assert (await world.ended()).reason == "first"
        await world.clean()

    live(body)


def test_an_interruption_leaves_what_is_about_to_run_alone(live):
    async def body(world):
        owner = await world.running()
        owner.interrupt("the agent was stopped")
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        assert not owner._ending.done()

    live(body)


# ---- the ledger fails --------------------------------------------------------------------------


@pytest.mark.parametrize("hit", [1, 2, 3, 4])
def test_a_ledger_that_fails_during_a_create_undoes_it(live, fail_commit, hit):
    async def body(world):
        fail_commit("commit.holds-taking.before", hit)
        await world.create()
        row = await world.ended()
        assert row.reason == "failed-to-create"
        assert "no space left on device" in row.message
        await world.clean()

    live(body)


def test_a_kernel_that_cannot_be_recorded_as_running_is_undone(live, fail_commit):
    async def body(world):
        fail_commit("commit.kernel-running.before", 1)
        await world.create()
        row = await world.ended()
        assert row.reason == "failed-to-start"
        assert "could not be recorded" in row.message
        await world.clean()

    live(body)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("commit", ["kernel-terminating", "container-gone", "kernel-terminated"])
def test_an_end_goes_on_when_the_ledger_does_and_is_told_once(live, fail_commit, commit, side):
    async def body(world):
        await world.running()
        hits = fail_commit(f"commit.{commit}.{side}", 1, 2)
        await world.kernels.destroy("k", "tired")
        assert (await world.ended()).reason == "tired"
        await world.clean()
        assert hits[f"commit.{commit}.{side}"] == (3 if side == "before" else 1)

    live(body)


def test_a_create_that_cannot_be_recorded_is_refused_and_takes_nothing(live, fail_commit):
    async def body(world):
        fail_commit("commit.kernel-preparing.before", 1)
        with pytest.raises(LedgerFailed, match="no space left"):
            await world.create()
        assert world.allocator.claims() == ()
        await world.running()

    live(body)


def test_a_create_whose_record_was_durable_after_all_goes_on(live, fail_commit):
    async def body(world):
        fail_commit("commit.kernel-preparing.after", 1)
        await world.running()
        assert len(world.allocator.claims()) == 3

    live(body)


# ---- many at once ------------------------------------------------------------------------------

TAKES = ["inspect_image", "scratch", "prepare aa", "prepare cc", "create", "created", "start"]
UNDOES = ["stop", "inspect", "logs", "remove", "release aa", "release bb", "destroy", "verify"]
fates = st.tuples(
    st.sampled_from([None, *TAKES, *UNDOES]),
    st.integers(1, 3),
    st.sampled_from(["at once", "when it runs", "by itself"]),
)


async def _live_through(world, kernel_id, fate):
    method, times, end = fate
    if method is not None:
        world.script.fail(method, times=times, kernel=kernel_id)
    await world.create(kernel_id)
    if end != "at once":
        row = await world.kernels.wait(kernel_id, ["RUNNING"])
        container = f"t.{kernel_id}.1.main.0"
        if end == "by itself" and row.state == "RUNNING":
            world.backend.end(container, 1)
            if owner := world.owners.of_container(container):
                owner.post(Ending(Reason.SELF_TERMINATED))
    await world.kernels.destroy(kernel_id, "tired")
    await world.ended(kernel_id)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(fates, min_size=50, max_size=50))
def test_fifty_at_once_with_faults_leave_nothing_and_end_once_each(live, drawn):
    async def body(world):
        names = [f"k{number}" for number in range(len(drawn))]
        await asyncio.gather(*map(_live_through, [world] * 50, names, drawn))
        for name in names:
            await world.clean(name)

    live(body, units=50)


def test_a_backend_that_raises_a_plain_error_is_named(live):
    async def body(world):
        world.script.fail("handles", ValueError("no"))
        await world.running()
        detail = await world.kernels.show("k")
        assert detail.usage == []
        world.script.fail("logs", ValueError("no"))
        with pytest.raises(PluginError, match="backend 'fake' failed in logs"):
            await anext(world.kernels.logs("k", follow=False))

    live(body)
