"""Kernels as the RPC sees them: one workload for one id, whoever asks, vanishes or comes late."""

import asyncio

import pytest

from agent_core.contracts.errors import (
    Conflict,
    CreateInterrupted,
    InsufficientResource,
    InvalidSpec,
    NotFound,
    PluginTimeout,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import PluginInfo, Support


def test_the_same_create_three_times_at_once_makes_one_kernel_and_one_answer(live):
    async def body(world):
        answers = await asyncio.gather(*(world.create() for _ in range(3)))
        assert {answer.kernel_id for answer in answers} == {"k"}
        assert {answer.state for answer in answers} == {"PREPARING"}
        await world.kernels.wait("k", ["RUNNING"])
        assert world.script.made("create") == ["create"]
        assert (await world.create()).state == "RUNNING"

    live(body)


def test_two_specifications_under_one_id_at_once_make_one_kernel_and_one_conflict(live):
    async def body(world):
        answers = await asyncio.gather(
            world.create(), world.create(env={"A": "b"}), return_exceptions=True
        )
        assert isinstance(answers[1], Conflict)
        assert len(world.allocator.claims()) == 3

    live(body)


def test_a_caller_who_vanishes_while_the_create_is_recorded_loses_nothing(live):
    async def body(world):
        asked = asyncio.ensure_future(world.create())
        await world.recording(3)
        asked.cancel()
        await asyncio.wait({asked})
        assert asked.cancelled()
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


def test_a_destroy_that_overtakes_its_create_waits_for_the_record(live):
    async def body(world):
        asked = asyncio.ensure_future(world.create())
        await world.recording(3)
        assert (await world.kernels.destroy("k", "tired")).reason == "tired"
        await asked
        await world.ended()
        await world.clean()

    live(body)


def test_a_repeated_create_is_answered_though_its_image_is_gone(live):
    async def body(world):
        world.backend.info = PluginInfo(
            kind="backend", name="fake", capabilities={"images.pull": Support.NO}
        )
        await world.running()
        world.script.fail("inspect_image")
        assert (await world.create()).state == "RUNNING"

    live(body)


def test_a_backend_that_does_not_answer_refuses_a_create_with_its_name(live):
    async def body(world):
        world.backend.info = PluginInfo(
            kind="backend", name="fake", capabilities={"images.pull": Support.NO}
        )
        world.script.gate("inspect_image")
        with pytest.raises(PluginTimeout, match="backend 'fake' is still in inspect_image"):
            await world.create()
        assert world.allocator.claims() == ()

    live(body, call_timeout=0.05)


def test_a_limit_that_the_scratch_does_not_have_is_refused_before_anything_is_taken(live):
    async def body(world):
        with pytest.raises(Unsupported, match="no limits"):
            await world.create(scratch_size="1g")
        assert world.allocator.claims() == ()
        assert await world.row() is None

    live(body)


def test_a_refused_create_leaves_its_id_free(live):
    async def body(world):
        with pytest.raises(InsufficientResource):
            await world.create(slots={"aa.unit": "9"})
        await world.running()

    live(body)


@pytest.mark.parametrize(
    "spec", [{1: 2}, {"slots": {1: 2}}, {"image": b"x"}, {"env": {"A": None}}, {"slots": 5}]
)
def test_data_that_json_does_not_have_is_a_fault_and_no_crash(live, spec):
    async def body(world):
        with pytest.raises(InvalidSpec):
            await world.kernels.create({"kernel_id": "k", "image": "python", **spec})

    live(body)


def test_what_has_ended_is_destroyed_with_success_and_waited_for_at_once(live):
    async def body(world):
        await world.running()
        await world.kernels.destroy("k", "tired")
        await world.ended()
        assert (await world.kernels.destroy("k", "again")).reason == "tired"
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "TERMINATED"
        with pytest.raises(WrongState, match="has ended: tired"):
            await world.create()
        with pytest.raises(NotFound):
            await world.kernels.destroy("nobody", "tired")

    live(body)


def test_an_exit_finds_its_owner_by_the_container_and_no_other(live):
    async def body(world):
        for number in range(3):
            await world.running(f"k{number}")
        assert set(world.owners._by_container) == {f"t.k{number}.1.main.0" for number in range(3)}
        await world.kernels.destroy("k1", "tired")
        await world.ended("k1")
        assert set(world.owners._by_container) == {"t.k0.1.main.0", "t.k2.1.main.0"}
        assert world.kernels.counts() == {"RUNNING": 2}

    live(body)


@pytest.mark.parametrize("method", ["inspect_image", "prepare bb", "create"])
def test_a_stop_undoes_creates_and_leaves_what_runs(live, method):
    async def body(world):
        await world.running("runs")
        gate = world.script.gate(method)
        await world.create()
        await gate.reached.wait()
        asked = asyncio.ensure_future(world.create("late"))
        await world.recording(9)
        await world.stop()
        await asyncio.wait({asked})
        await world.start()
        assert (await world.row("runs")).state == "RUNNING"
        for name in ("k", "late"):
            assert (await world.row(name)).reason == "create-interrupted"
        with pytest.raises(CreateInterrupted):
            await world.create()
        assert {key.split(".")[0] for kind, key in await world.holds() if kind == "claim"} == {
            "runs"
        }
        assert len(world.allocator.claims()) == 3

    live(body)


def test_a_log_without_an_end_is_followed_and_one_that_hangs_is_given_up(live):
    async def body(world):
        await world.running()
        world.script.gate("logs")
        with pytest.raises(PluginTimeout, match="logs"):
            await anext(world.kernels.logs("k", follow=False))
        world.script.open_all()
        assert (await anext(world.kernels.logs("k", follow=True))).data == b"said"

    live(body, call_timeout=0.05)
