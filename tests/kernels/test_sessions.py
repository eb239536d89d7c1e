"""Sessions of several kernels: all or none, and what they share goes with the last of them."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.contracts.errors import (
    Conflict,
    CreateInterrupted,
    InsufficientResource,
    InvalidSpec,
    LedgerFailed,
    NotFound,
    WrongState,
)
from agent_core.kernels.cluster import arranged, read_cluster
from agent_core.kernels.journal import TERMINATED

from .conftest import SLOTS

NETWORK = "t.s"
KERNELS = ["s-main1", "s-sub1", "s-sub2"]


def specs(count=3, **changes):
    return [{"image": "python", "slots": SLOTS, **changes} for _ in range(count)]


async def whole(world, count=3):
    """Create a session and wait until all its kernels run."""
    created = await world.kernels.create_session("s", specs(count))
    for kernel in created.kernels:
        row = await world.kernels.wait(kernel.kernel_id, ["RUNNING"])
        assert row.state == "RUNNING", await world.row(kernel.kernel_id)
    return created


async def ended(world, kernels=KERNELS):
    """Wait for the end of all kernels and return their reasons."""
    return [(await world.ended(kernel)).reason for kernel in kernels]


async def clean(world, kernels=KERNELS):
    for kernel in kernels:
        await world.clean(kernel)
    assert world.backend.networks == set()


# ---- all or none -------------------------------------------------------------------------------


def test_a_session_has_its_kernels_in_their_places(live):
    async def body(world):
        created = await whole(world)
        assert [kernel.kernel_id for kernel in created.kernels] == KERNELS
        env = world.backend.specs["t.s-sub2.1.main.0"].env
        assert env["BACKENDAI_CLUSTER_HOSTS"] == "main1,sub1,sub2"
        assert (env["BACKENDAI_CLUSTER_HOST"], env["BACKENDAI_CLUSTER_IDX"]) == ("sub2", "2")
        assert env["BACKENDAI_CLUSTER_REPLICAS"] == "main:1,sub:2"
        (row,) = await world.kernels.list_sessions(include_ended=False)
        assert [(k.host, k.state) for k in row.kernels] == [
            ("main1", "RUNNING"),
            ("sub1", "RUNNING"),
            ("sub2", "RUNNING"),
        ]
        rows = await world.kernels.destroy_session("s", "tired")
        assert [row.state for row in rows] == ["TERMINATING"] * 3
        assert await ended(world) == ["tired"] * 3
        await clean(world)

    live(body)


def test_where_one_kernel_does_not_fit_none_is_accepted(live):
    async def body(world):
        with pytest.raises(InsufficientResource):
            await world.kernels.create_session("s", specs(3))
        assert world.allocator.claims() == ()
        assert await world.kernels.list(include_ended=True) == []
        await whole(world, 2)

    live(body, units=2)


def test_faults_of_all_kernels_are_named_with_their_number(live):
    async def body(world):
        bad = [*specs(1), *specs(1, env={"9": "x"}), *specs(1, slots={"nope": "1"})]
        with pytest.raises(InvalidSpec) as caught:
            await world.kernels.create_session("s", bad)
        assert "kernels[1].env" in caught.value.message
        assert "kernels[2]." in caught.value.message
        assert len(caught.value.details["faults"]) == 2

    live(body)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ([], "1 to 256 kernels"),
        (specs(1, role="Main"), r"kernels\[0\].role"),
        (specs(1, role="main1"), r"kernels\[0\].role"),
        (specs(1, session_id="x"), r"kernels\[0\].session_id"),
        (specs(1, cluster={}), r"kernels\[0\].cluster"),
    ],
)
def test_what_a_session_cannot_be_is_refused(live, asked, part):
    async def body(world):
        with pytest.raises(InvalidSpec, match=part):
            await world.kernels.create_session("s", asked)

    live(body)


def test_the_same_session_twice_is_one_and_another_of_its_id_is_refused(live):
    async def body(world):
        answers = await asyncio.gather(
            *(world.kernels.create_session("s", specs()) for _ in range(3))
        )
        assert [kernel.kernel_id for kernel in answers[2].kernels] == KERNELS
        assert len(world.allocator.claims()) == 9
        with pytest.raises(Conflict):
            await world.kernels.create_session("s", specs(2))

    live(body)


def test_a_session_of_which_only_a_part_is_there_is_refused(live):
    async def body(world):
        cluster = {"role": "main", "index": 1, "hosts": ["main1", "sub1"]}
        await world.create("s-main1", session_id="s", cluster=cluster)
        with pytest.raises(Conflict, match="exists without kernel s-sub1"):
            await world.kernels.create_session("s", specs(2))

    live(body)


def test_a_session_that_cannot_be_recorded_takes_nothing(live, fail_commit):
    async def body(world):
        fail_commit("commit.kernel-preparing.before", 1)
        with pytest.raises(LedgerFailed):
            await world.kernels.create_session("s", specs())
        assert world.allocator.claims() == ()
        assert await world.kernels.list(include_ended=True) == []
        await whole(world)

    live(body)


@pytest.mark.parametrize("method", ["scratch", "prepare bb", "create", "start"])
def test_a_kernel_that_cannot_be_created_ends_its_session(live, method):
    async def body(world):
        world.script.fail(method, kernel="s-sub1")
        await world.kernels.create_session("s", specs())
        reasons = dict(zip(KERNELS, await ended(world), strict=True))
        assert reasons.pop("s-sub1") in ("failed-to-create", "failed-to-start")
        assert set(reasons.values()) == {"session-failed"}
        assert "kernel s-sub1 of session s" in (await world.row("s-main1")).message
        await clean(world)

    live(body)


def test_a_kernel_that_ends_later_leaves_the_others_alone(live):
    async def body(world):
        await whole(world)
        await world.kernels.destroy("s-sub1", "tired")
        await world.ended("s-sub1")
        rows = {row.kernel_id: row.state for row in await world.kernels.list(include_ended=False)}
        assert rows == {"s-main1": "RUNNING", "s-sub2": "RUNNING"}
        assert world.backend.networks == {NETWORK}
        await world.kernels.destroy_session("s", "tired")
        await ended(world)
        await clean(world)

    live(body)


def test_a_session_that_an_agent_left_half_made_is_undone_whole(live):
    async def body(world):
        gate = world.script.gate("prepare bb")
        await world.kernels.create_session("s", specs())
        await gate.reached.wait()
        gate.open()
        await world.crash()
        await world.start()
        assert set(await ended(world)) <= {"create-interrupted", "session-failed"}
        with pytest.raises((CreateInterrupted, WrongState)):
            await world.kernels.create_session("s", specs())
        await clean(world)

    live(body)


def test_destroying_a_session_that_never_was_is_told(live):
    async def body(world):
        with pytest.raises(NotFound, match="no session 'x'"):
            await world.kernels.destroy_session("x", "tired")

    live(body)


# ---- what they share ---------------------------------------------------------------------------


def test_a_network_is_made_for_several_kernels_and_not_for_one(live):
    async def body(world):
        await world.running("alone")
        assert world.backend.networks == set()
        await whole(world, 2)
        assert world.backend.networks == {NETWORK}
        assert world.backend.specs["t.s-sub1.1.main.0"].edits.networks == (NETWORK,)

    live(body)


def test_a_restart_of_one_kernel_keeps_the_network(live):
    async def body(world):
        await whole(world)
        await world.kernels.restart("s-sub1", None)
        await world.owners.get("s-sub1").changed()
        assert (await world.kernels.wait("s-sub1", ["RUNNING"])).incarnation == 2
        assert not world.script.made("remove_network")
        assert world.backend.specs["t.s-sub1.2.main.0"].edits.networks == (NETWORK,)

    live(body)


def test_the_last_kernel_removes_the_network_and_no_other(live):
    async def body(world):
        await whole(world)
        for kernel in KERNELS[:2]:
            await world.kernels.destroy(kernel, "tired")
            await world.ended(kernel)
        assert not world.script.made("remove_network")
        await world.kernels.destroy(KERNELS[2], "tired")
        await world.ended(KERNELS[2])
        assert world.script.made("remove_network") == ["remove_network"]
        await clean(world)

    live(body)


def test_a_kernel_that_comes_while_the_network_is_removed_finds_it(live):
    async def body(world):
        await whole(world, 2)
        gate = world.script.gate("remove_network")
        await world.kernels.destroy_session("s", "tired")
        await gate.reached.wait()
        cluster = {"role": "late", "index": 1, "hosts": ["main1", "late1"]}
        await world.create("late", session_id="s", cluster=cluster)
        await world.step("network", "late")
        gate.open()
        assert (await world.kernels.wait("late", ["RUNNING"])).state == "RUNNING"
        assert world.backend.networks == {NETWORK}
        await world.kernels.destroy("late", "tired")
        await ended(world, [*KERNELS[:2], "late"])
        await clean(world, [*KERNELS[:2], "late"])

    live(body)


def test_a_network_that_cannot_be_removed_is_dirty_and_removed_later(live):
    async def body(world):
        await whole(world, 2)
        world.script.fail("remove_network")
        await world.kernels.destroy_session("s", "tired")
        await ended(world, KERNELS[:2])
        await world.held_as("dirty", "network", NETWORK)
        world.script.heal()
        await clean(world, KERNELS[:2])

    live(body)


def test_the_next_agent_removes_a_network_that_a_crash_left(live):
    async def body(world):
        await whole(world, 2)
        gate = world.script.gate("remove_network")
        await world.kernels.destroy_session("s", "tired")
        await gate.reached.wait()
        gate.open()
        await world.crash()
        await world.start()
        await ended(world, KERNELS[:2])
        await clean(world, KERNELS[:2])

    live(body)


fates = st.lists(
    st.tuples(
        st.sampled_from([None, "create_network", "prepare aa", "create", "start"]),
        st.sampled_from(["at once", "when it runs", "restart"]),
    ),
    min_size=2,
    max_size=6,
)


async def _live_through(world, kernel, method, end):
    if method is not None:
        world.script.fail(method, times=1, kernel=kernel if method != "create_network" else None)
    if end == "at once":
        await world.kernels.destroy(kernel, "tired")
    row = await world.kernels.wait(kernel, ["RUNNING"])
    if end == "restart" and row.state == "RUNNING":
        await asyncio.gather(world.kernels.restart(kernel, 1), return_exceptions=True)
    await world.kernels.destroy(kernel, "tired")


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(fates)
def test_whatever_becomes_of_its_kernels_a_session_leaves_nothing(live, drawn):
    async def body(world):
        created = await world.kernels.create_session("s", specs(len(drawn)))
        kernels = [kernel.kernel_id for kernel in created.kernels]
        await asyncio.gather(
            *(_live_through(world, k, *fate) for k, fate in zip(kernels, drawn, strict=True))
        )
        await ended(world, kernels)
        await clean(world, kernels)

    live(body, units=6)


# ---- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("main", "is not a table"),
        ({"rolle": "x"}, "unknown field 'rolle'"),
        ({"role": "9"}, "cluster.role"),
        ({"index": 0}, "cluster.index"),
        ({"index": True}, "cluster.index"),
        ({"hosts": []}, "cluster.hosts"),
        ({"hosts": ["main1", "main1"]}, "is there twice"),
        ({"hosts": ["sub1"]}, "own name 'main1' is missing"),
        ({"hosts": ["main1", "a b"]}, "'a b' is not a role"),
    ],
)
def test_a_place_that_makes_no_sense_is_named(value, part):
    _, faults = read_cluster(value)
    assert any(part in fault for fault in faults)


@given(st.lists(st.sampled_from(["main", "sub", "ps"]), min_size=1, max_size=9))
def test_every_kernel_has_a_host_of_its_own_and_reads_back_its_place(roles):
    places = arranged(roles)
    assert len({place.host for place in places}) == len(roles)
    assert all(place.hosts == tuple(each.host for each in places) for place in places)
    assert all(read_cluster(place.to_data()) == (place, []) for place in places)


def test_a_session_ends_with_the_batch_of_one_of_its_kernels(live):
    async def body(world):
        first, *others = specs()
        await world.kernels.create_session("s", [{**first, "startup_command": "true"}, *others])
        for kernel_id in KERNELS:
            await world.kernels.wait(kernel_id, ["RUNNING"])
        await world.kernels.destroy("s-main1", "tired")
        assert await ended(world) == ["tired", "session-ended", "session-ended"]
        await clean(world)

    live(body)


def test_a_session_whose_batch_ended_in_the_last_moment_of_an_agent_is_ended_by_the_next(live):
    async def body(world):
        first, *others = specs()
        await world.kernels.create_session("s", [{**first, "startup_command": "true"}, *others])
        for kernel_id in KERNELS:
            await world.kernels.wait(kernel_id, ["RUNNING"])
        row = world.owners.get("s-main1").journal.row
        over = replace(row, state="TERMINATED", reason="task-finished", ended_at=row.created_at + 1)
        await world.ledger.write(TERMINATED, lambda tx: tx.put_kernel(over))
        await world.crash()
        await world.start()
        assert await ended(world) == ["task-finished", "session-ended", "session-ended"]
        await clean(world, KERNELS[1:])  # the first one's end was written by hand

    live(body)


def test_an_agent_ends_no_session_for_what_became_of_an_earlier_one_of_its_id(live):
    async def body(world):
        world.script.fail("create", kernel="old")
        old, *others = specs()
        await world.kernels.create_session("s", [{**old, "kernel_id": "old"}, *others])
        reasons = await ended(world, ["old", *KERNELS[1:]])
        assert reasons[0] == "failed-to-create"
        world.script.heal()
        again = [{**each, "kernel_id": f"new{n}"} for n, each in enumerate(specs())]
        await world.kernels.create_session("s", again)
        new = ["new0", "new1", "new2"]
        for kernel_id in new:
            await world.kernels.wait(kernel_id, ["RUNNING"])
        await world.crash()
        await world.start()
        rows = {row.kernel_id: row.state for row in await world.kernels.list(include_ended=False)}
        assert rows == dict.fromkeys(new, "RUNNING")
        for kernel_id in new:
            await world.kernels.destroy(kernel_id, "tired")
        assert await ended(world, new) == ["tired"] * 3
        await clean(world, new)

    live(body)
