"""Rounds of a live node: what nobody holds is reported or removed, and nothing else is touched."""

import asyncio

import pytest

from agent_core import clock
from agent_core.contracts.backend import ContainerSpec, ContainerState
from agent_core.kernels.removing import Removing
from agent_core.kernels.sightings import listed
from agent_core.kernels.survey import survey
from agent_core.ledger import Commit, sums

from .conftest import until

LOST = Commit("test-rows-lost", "rows are lost")

REMOVE = {"stranger_policy": "remove", "stranger_grace": 0.0}


def lose(tx):
    """What a disk that lost its last pages might have forgotten."""
    tx.drop_holds(tx.holds())
    tx._db.execute("DELETE FROM kernels")


async def orphan(world, *kernels):
    """Let kernels run, and let the ledger and the next agent know nothing of them."""
    for kernel in kernels:
        await world.running(kernel)
    await world.ledger.write(LOST, lose)
    await world.crash()
    await world.start()


def stray(world, name="t.lost.1.main.0", owner="t"):
    """A container that nobody has asked for."""
    record = {"kernel_id": name.split(".")[1]} if owner == "t" else {}
    spec = ContainerSpec(name, owner, "python", ("/x",), {}, "/", record=record)
    world.backend.specs[name], world.backend.states[name] = spec, ContainerState.RUNNING


@pytest.fixture
def boottime(monkeypatch):
    """The boot-time clock, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(clock, "boottime", lambda: now[0])

    def pass_(seconds):
        now[0] += seconds

    return pass_


def verdicts(found):
    return {(row.kind, row.key): (row.verdict, row.outcome) for row in found.actions}


def test_a_running_kernel_is_as_the_ledger_says(live):
    async def body(world):
        await world.running()
        found = await world.reconciler.look()
        assert (found.kernels, found.agreed, found.actions) == (1, 1, [])

    live(body, **REMOVE)


def test_a_dry_run_says_what_a_round_does_and_changes_nothing(live):
    async def body(world):
        await world.running()
        world.backend.lose("t.k.1.main.0")
        for _ in range(2):
            planned = await world.reconciler.look(act=False)
            assert verdicts(planned) == {("kernel", "k"): ("end", "")}
        assert not world.owners.get("k")._ending.done()
        assert verdicts(await world.reconciler.look()) == {("kernel", "k"): ("end", "ending")}
        assert (await world.ended()).reason == "container-not-found"
        await world.clean()

    live(body, **REMOVE)


def test_a_kernel_that_is_being_built_or_ended_is_waited_for(live):
    async def body(world):
        gate = world.script.gate("create")
        await world.create()
        await gate.reached.wait()
        found = verdicts(await world.reconciler.look())
        assert found == {("kernel", "k"): ("wait", "")}
        gate.open()
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"

    live(body, **REMOVE)


def test_an_action_is_dropped_when_its_kernel_has_moved_on(live):
    async def body(world):
        owner = await world.running()
        world.backend.lose("t.k.1.main.0")
        gate = world.script.gate("inspect")
        looking = asyncio.ensure_future(world.reconciler.look())
        await gate.reached.wait()
        owner._settle()
        gate.open()
        assert verdicts(await looking)["kernel", "k"] == (
            "end",
            "dropped: it has changed meanwhile",
        )

    live(body)


def test_a_strange_container_waits_is_reported_once_and_stays(live, boottime):
    async def body(world):
        stray(world)
        name = ("container", "t.lost.1.main.0")
        assert verdicts(await world.reconciler.look())[name] == ("wait", "")
        boottime(299)
        assert verdicts(await world.reconciler.look())[name] == ("wait", "")
        boottime(1)
        assert verdicts(await world.reconciler.look())[name] == ("report", "")
        assert world.reconciler.strangers.reported == 1
        assert "t.lost.1.main.0" in world.backend.specs

    live(body)


def test_a_strange_container_past_its_grace_is_asked_to_end_and_removed_by_policy(live, boottime):
    async def body(world):
        stray(world)
        await world.reconciler.look()
        boottime(60)
        name = ("container", "t.lost.1.main.0")
        assert verdicts(await world.reconciler.look())[name] == ("remove", "removed")
        assert world.backend.specs == {}
        assert world.script.made("stop", "remove") == ["stop", "remove"]
        assert (await world.reconciler.look()).actions == []

    live(body, stranger_policy="remove", stranger_grace=60.0)


def test_everything_of_a_lost_kernel_goes_once_its_container_is_gone(live):
    async def body(world):
        await orphan(world, "a", "b")
        first = verdicts(await world.reconciler.look())
        assert first["container", "t.a.1.main.0"] == ("remove", "removed")
        assert first["scratch", "a"][0] == "leave"
        await world.reconciler.look()
        # Nothing proves whose a prepared device is when the ledger has lost its kernel.
        assert {leak.kind for leak in await world.leaks()} == {"device"}
        assert world.backend.specs == {}
        assert [*world.scratch.root.iterdir()] == []
        assert [*(world.root / "k").iterdir()] == []

    live(body, **REMOVE)


def test_another_agents_things_are_neither_named_nor_touched(live):
    async def body(world):
        stray(world, "other.lost.1.main.0", owner="other")
        (world.scratch.root / "theirs").mkdir()
        world.scratch.owners["theirs"] = "other"
        await world.reconciler.look()
        found = await world.reconciler.look()
        assert found.actions == []
        assert await world.leaks() == []
        assert "other.lost.1.main.0" in world.backend.specs
        assert (world.scratch.root / "theirs").is_dir()

    live(body, **REMOVE)


@pytest.mark.parametrize("what", ["container", "list", "scratches"])
def test_what_nobody_can_tell_is_left_alone(live, what):
    async def body(world):
        stray(world)
        (world.scratch.root / "lost").mkdir()
        if what == "container":
            world.backend.unknown.add("t.lost.1.main.0")
        elif what == "list":
            world.script.fail("list")
        else:
            world.scratch.list = lambda: 1 / 0
        for _ in range(2):
            found = await world.reconciler.look()
            assert all(row.verdict == "leave" for row in found.actions)
        assert found.warnings or found.actions
        assert "t.lost.1.main.0" in world.backend.specs
        assert (world.scratch.root / "lost").is_dir()

    live(body, **REMOVE)


def test_a_stranger_that_cannot_be_removed_is_told_and_tried_again(live):
    async def body(world):
        stray(world)
        world.script.fail("remove", times=1)
        name = ("container", "t.lost.1.main.0")
        failed = verdicts(await world.reconciler.look())[name]
        assert failed[1].startswith("failed: backend 'fake' failed in remove()")
        assert verdicts(await world.reconciler.look())[name] == ("remove", "removed")

    live(body, **REMOVE)


def test_a_create_of_a_kernel_waits_while_what_is_left_of_it_is_removed(live):
    async def body(world):
        stray(world, "t.k.1.main.0")
        gate = world.script.gate("stop")
        looking = asyncio.ensure_future(world.reconciler.look())
        await gate.reached.wait()
        creating = asyncio.ensure_future(world.create())
        await asyncio.sleep(0)
        assert await world.row() is None
        gate.open()
        assert verdicts(await looking)["container", "t.k.1.main.0"] == ("remove", "removed")
        await creating
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"

    live(body, **REMOVE)


def test_what_is_held_by_the_time_of_its_removal_stays(live):
    async def body(world):
        await world.running()
        things = [
            t for t in await survey_of(world) if t.kind in ("scratch", "run-dir", "container")
        ]
        assert len(things) == 3
        await world.crash()
        await world.start()
        for thing in things:
            assert (
                await Removing(world.services, world.owners).remove(thing)
                == "kernel k has an owner"
            )
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        assert [*(world.root / "k").iterdir()] != []

    live(body, **REMOVE)


async def survey_of(world):
    return await survey(world.services, await listed(world.services))


def test_many_kernels_are_looked_at_in_slices(live, monkeypatch):
    async def body(world):
        for number in range(5):
            await world.create(f"k{number}", slots={})
        for number in range(5):
            await world.kernels.wait(f"k{number}", ["RUNNING"])
        slept = []
        real = asyncio.sleep

        async def sleep(seconds):
            slept.append(seconds)
            await real(seconds)

        monkeypatch.setattr("agent_core.kernels.reconciler.asyncio.sleep", sleep)
        before = len(world.script.made("list", "inspect"))
        assert await world.reconciler.look_at_kernels() == []
        assert slept == [0, 0, 0]
        assert world.script.made("list", "inspect")[before:] == ["list"]

    monkeypatch.setattr("agent_core.kernels.reconciler.SLICE", 2)
    live(body)


def test_a_regular_look_removes_what_nobody_holds_without_being_asked(live):
    async def body(world):
        stray(world)
        looking = asyncio.ensure_future(world.watching.survey())
        await until(lambda: not world.backend.specs)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    live(body, look_interval=0.01, **REMOVE)


def test_a_look_that_fails_is_followed_by_others(live):
    async def body(world):
        stray(world)
        world.script.fail("list", times=1)
        real, world.scratch.list = world.scratch.list, lambda: 1 / 0
        looking = asyncio.ensure_future(world.watching.survey())
        await world.called("list", 3)
        world.scratch.list = real
        await until(lambda: not world.backend.specs)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    live(body, look_interval=0.01, **REMOVE)


def test_where_no_looks_are_wanted_nobody_is_asked_what_exists(live):
    async def body(world):
        before = [*world.script.calls]
        await world.watching.survey()
        assert world.script.calls == before

    live(body, look_interval=None)


def test_a_stranger_that_hangs_keeps_no_kernel_from_being_looked_at(live):
    async def body(world):
        await world.running()
        stray(world)
        gate = world.script.gate("stop")
        removing = asyncio.ensure_future(world.reconciler.strangers.look())
        await gate.reached.wait()
        world.backend.lose("t.k.1.main.0")
        [row] = await world.reconciler.look_at_kernels()
        assert (row.key, row.outcome) == ("k", "ending")
        gate.open()
        assert [row.outcome for row in await removing] == ["removed"]

    live(body, **REMOVE)


def test_a_kernel_that_nobody_could_take_over_is_told(live):
    async def body(world):
        await world.running()
        await world.ledger.write(LOST, dance)
        await world.crash()
        await world.start()
        [row] = (await world.reconciler.look(act=False)).actions
        assert (row.key, row.verdict) == ("k", "leave")
        assert "could not be taken over" in row.because

    live(body, **REMOVE)


def dance(tx):
    tx._db.execute("UPDATE kernels SET state = 'DANCING'")
    sums.write_all(tx._db)


def test_a_container_that_does_not_answer_is_left_and_keeps_no_other_waiting(live):
    async def body(world):
        for kernel in ("mute", "gone"):
            await world.running(kernel)
            world.backend.lose(f"t.{kernel}.1.main.0")
        real = world.backend.inspect

        async def inspect(name):
            if name.startswith("t.mute."):
                await asyncio.Event().wait()
            return await real(name)

        world.backend.inspect = inspect
        found = verdicts(await world.reconciler.look())
        assert found["kernel", "mute"] == ("leave", "")
        assert found["kernel", "gone"] == ("end", "ending")
        assert (await world.ended("gone")).reason == "container-not-found"
        assert world.owners.get("mute").journal.state == "RUNNING"
        world.backend.inspect = real

    live(body, call_timeout=0.1)


def test_an_answer_is_bounded_and_says_so(live, monkeypatch):
    async def body(world):
        for number in range(5):
            stray(world, f"t.lost{number}.1.main.0")
        found = await world.reconciler.look(act=False)
        assert len(found.actions) == 3
        assert found.warnings == ("2 more are not shown",)

    monkeypatch.setattr("agent_core.kernels.reconciler.TOLD", 3)
    live(body)
