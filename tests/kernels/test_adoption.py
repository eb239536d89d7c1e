"""Going on after a crash: what runs runs on, what was begun is undone, and bad rows stop nobody."""

import asyncio
import sqlite3

import pytest

from agent_core.contracts.errors import RunnerUnavailable
from agent_core.ledger import sums

CONTAINER = "t.k.1.main.0"


def rewrite(world, *statements):
    """Change the ledger as a defect or another version might; what a disk does is noticed."""
    with sqlite3.connect(world.root / "ledger.db") as db:
        for statement in statements:
            db.execute(statement)
        sums.write_all(db)
    db.close()


@pytest.mark.parametrize(
    "method", ["inspect_image", "scratch", "prepare bb", "create", "created", "start", "verify"]
)
def test_a_crash_in_the_middle_of_a_create_is_undone_by_the_next_agent(live, method):
    async def body(world):
        gate = world.script.gate(method)
        await world.create()
        await gate.reached.wait()
        await world.crash()
        world.script.open_all()
        await world.start()
        assert (await world.ended()).reason == "create-interrupted"
        await world.clean()

    live(body)


@pytest.mark.parametrize("method", ["stop", "logs", "remove", "release bb", "destroy"])
def test_a_crash_in_the_middle_of_a_destroy_is_finished_by_the_next_agent(live, method):
    async def body(world):
        await world.running()
        world.backend.end(CONTAINER, 5)
        gate = world.script.gate(method if method != "stop" else "inspect")
        await world.kernels.destroy("k", "tired")
        await gate.reached.wait()
        await world.crash()
        world.script.open_all()
        await world.start()
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("tired", 5)
        await world.clean()

    live(body)


def test_a_running_kernel_is_adopted_with_its_claims_and_can_be_destroyed(live):
    async def body(world):
        await world.running()
        await world.crash()
        await world.start()
        assert world.faults == []
        assert len(world.allocator.claims()) == 3
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


@pytest.mark.parametrize("answer", ["fails", "hangs", "unknown"])
def test_a_kernel_of_which_nobody_knows_anything_runs_on(live, answer):
    async def body(world):
        await world.running()
        await world.crash()
        if answer == "unknown":
            world.backend.unknown.add(CONTAINER)
        elif answer == "fails":
            world.script.fail("list")
        else:
            world.script.gate("list")
        await world.start()
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        assert not world.owners.get("k")._ending.done()
        world.script.open_all()

    live(body, call_timeout=0.1)


def test_a_container_that_went_while_the_agent_was_away_ends_its_kernel(live):
    async def body(world):
        await world.running()
        await world.crash()
        world.backend.lose(CONTAINER)
        await world.start()
        assert (await world.ended()).reason == "container-not-found"
        await world.clean()

    live(body)


def test_what_is_dirty_stays_held_over_a_restart_and_is_cleaned_after_it(live):
    async def body(world):
        await world.running()
        world.script.fail("release bb")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.crash()
        await world.start()
        assert [claim.id for claim in world.allocator.claims()] == ["k.1.bb"]
        assert await world.kernels.list(include_ended=False) == []
        assert ("device", "k.1.bb") in {(leak.kind, leak.key) for leak in await world.leaks()}
        world.script.heal()
        await world.clean()

    live(body)


def test_devices_of_a_plugin_that_is_gone_stay_held_until_it_is_back(live):
    async def body(world):
        await world.running()
        await world.crash()
        whole, world.fakes = world.fakes, world.fakes[:2]
        await world.start()
        await world.kernels.destroy("k", "tired")
        await world.ended()
        assert await world.holds() == {("device", "k.1.cc"): "dirty", ("claim", "k.1.cc"): "dirty"}
        details = [leak.detail for leak in await world.leaks() if leak.kind == "device"]
        assert details == ["device plugin 'cc' is not ready"]
        await world.crash()
        world.fakes = whole
        await world.start()
        await world.clean()

    live(body)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE kernels SET spec = '{}' WHERE kernel_id = 'bad'",
        "UPDATE kernels SET spec = '[1]' WHERE kernel_id = 'bad'",
        "UPDATE kernels SET spec = 'not json' WHERE kernel_id = 'bad'",
        """UPDATE kernels SET spec = '{"image": 5, "slots": 7}' WHERE kernel_id = 'bad'""",
        "UPDATE kernels SET container = NULL WHERE kernel_id = 'bad'",
    ],
)
def test_a_kernel_with_a_malformed_row_is_taken_over_and_can_be_destroyed(live, damage):
    async def body(world):
        await world.running("bad")
        await world.running("good")
        await world.crash()
        rewrite(world, damage)
        await world.start()
        rows = await world.kernels.list(include_ended=True)
        assert [(row.kernel_id, row.state) for row in rows] == [
            ("bad", "RUNNING"),
            ("good", "RUNNING"),
        ]
        for name in ("bad", "good"):
            await world.kernels.destroy(name, "tired")
            await world.ended(name)
        await world.clean("bad")
        await world.clean("good")

    live(body)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("UPDATE kernels SET state = 'DANCING' WHERE kernel_id = 'bad'", "kernel bad cannot be"),
        (
            "UPDATE holds SET undo = 'not json' WHERE kind = 'claim' AND key = 'bad.1.aa'",
            "claim bad.1.aa cannot be restored",
        ),
        (
            """UPDATE holds SET undo = '{"id": 1, "grants": [[1]]}' WHERE key = 'bad.1.aa'""",
            "claim bad.1.aa cannot be restored",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_told_and_keeps_nobody_from_starting(live, damage, fault):
    async def body(world):
        await world.running("bad")
        await world.running("good")
        await world.crash()
        rewrite(world, damage)
        await world.start()
        assert len(world.faults) == 1
        assert world.faults[0].startswith(fault)
        await world.kernels.destroy("good", "tired")
        assert (await world.ended("good")).reason == "tired"
        assert CONTAINER.replace("k", "bad") in world.backend.specs

    live(body)


def test_a_claim_that_could_not_be_restored_is_a_leak(live):
    async def body(world):
        await world.running()
        await world.crash()
        rewrite(world, "UPDATE holds SET undo = '{}' WHERE kind = 'claim' AND key = 'k.1.aa'")
        await world.start()
        (leak,) = await world.leaks()
        assert (leak.kind, leak.key) == ("claim", "k.1.aa")
        assert "the allocator does not know it" in leak.detail

    live(body)


def test_a_kernel_whose_socket_cannot_be_made_runs_on_without_code(live):
    async def body(world):
        owner = await world.running()
        directory = owner.build.run_dir
        await world.crash()
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        directory.write_text("a file where the directory should be")
        await world.start()
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        with pytest.raises(RunnerUnavailable):
            await world.kernels.runs("k")

    live(body)


def test_a_kernel_keeps_the_run_directory_that_its_runner_knows(live):
    async def body(world):
        old = (await world.running()).build.run_dir
        await world.crash()
        world.options["run_root"] = world.root / "elsewhere"
        await world.start()
        assert world.owners.get("k").build.run_dir == old
        await world.kernels.destroy("k", "tired")
        await world.ended()
        assert not await asyncio.to_thread(old.exists)
        await world.clean()

    live(body)
