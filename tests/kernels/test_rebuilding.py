"""After the ledger was lost: what runs is found again by its record, and nothing is given twice."""

import asyncio
import shutil

import pytest

from agent_core.contracts.backend import ContainerState
from agent_core.contracts.errors import InsufficientResource, Reconciling
from agent_core.kernels.adoption import adopt_later
from agent_core.kernels.reading import RECOVERED
from agent_core.ledger import BackupKeeper

CONTAINER = "t.k.1.main.0"
ENV = {"TOKEN": "s3cret", "MODE": "fast"}
ALL_UNITS = {"aa.unit": "4"}


def lose(world):
    """The ledger is gone, as after a disk was replaced; its backups too."""
    for file in world.root.glob("ledger.db*"):
        file.unlink()
    shutil.rmtree(world.root / "backups", ignore_errors=True)


def damage(world):
    (world.root / "ledger.db").write_bytes(b"certainly not a database" * 100)


async def back_up(world):
    return await BackupKeeper(world.ledger).back_up()


async def recovered_events(world):
    stream = world.bus.watch(None, since=None, follow=False, progress=False)
    return [item.data async for item in stream if item.name == "ledger.recovered"]


def test_a_kernel_that_runs_is_rebuilt_with_all_that_it_holds(live):
    async def body(world):
        await world.create(env=ENV)
        await world.kernels.wait("k", ["RUNNING"])
        before, held = await world.row(), await world.holds()
        claims = world.allocator.claims()
        await world.crash()
        lose(world)
        await world.start()
        row = await world.row()
        for name in ("state", "session_id", "spec_digest", "created_at", "incarnation"):
            assert getattr(row, name) == getattr(before, name)
        assert (row.container, row.ended_at) == (CONTAINER, None)
        assert await world.holds() == held
        assert world.allocator.claims() == claims
        assert await world.leaks() == []
        await world.kernels.destroy("k", "tired")
        assert (await world.ended()).reason == "tired"
        await world.idle()
        assert await world.holds() == {}
        assert world.allocator.claims() == ()
        assert world.backend.specs == {}

    live(body)


def test_a_record_has_no_value_of_the_environment_that_was_asked_for(live):
    async def body(world):
        await world.create(env=ENV)
        await world.kernels.wait("k", ["RUNNING"])
        record = world.backend.specs[CONTAINER].record
        assert record["env"] == ["MODE", "TOKEN"]
        assert "s3cret" not in repr(record)
        await world.crash()
        lose(world)
        await world.start()
        row = await world.row()
        assert "env" not in row.spec
        assert "MODE, TOKEN" in row.warnings[-1]

    live(body)


def test_the_same_create_is_answered_by_the_kernel_that_was_rebuilt(live):
    async def body(world):
        await world.create(env=ENV)
        await world.kernels.wait("k", ["RUNNING"])
        await world.crash()
        lose(world)
        await world.start()
        assert (await world.create(env=ENV)).state == "RUNNING"
        assert world.script.made("create") == ["create"]

    live(body)


def test_a_first_start_finds_nothing_and_tells_nothing(live):
    async def body(world):
        assert world.ledger.reconciling == ""
        assert world.ledger.recovery is None
        assert await recovered_events(world) == []

    live(body)


def test_a_ledger_that_was_damaged_tells_once_how_and_what_was_found(live):
    async def body(world):
        await world.running()
        await world.crash()
        damage(world)
        await world.start()
        (told,) = await recovered_events(world)
        assert told["why"] == "the file is not an SQLite database"
        assert (told["source"], told["rebuilt"], told["kernels"]) == ("nothing", 1, ["k"])
        assert "damaged-" in told["kept"]
        await world.crash()
        await world.start()
        assert len(await recovered_events(world)) == 1

    live(body)


# ---- what runs already is never given again -----------------------------------------------------


def test_what_rebuilt_kernels_have_is_given_to_nobody_else(live):
    async def body(world):
        await world.create(slots=ALL_UNITS)
        await world.kernels.wait("k", ["RUNNING"])
        await world.crash()
        lose(world)
        await world.start()
        with pytest.raises(InsufficientResource):
            await world.create("other", slots={"aa.unit": "1"})

    live(body)


def test_a_rebuilt_kernel_keeps_its_ports_and_nobody_else_gets_them(live):
    async def body(world):
        await world.create(ports="web:http:8080,tb:tcp:6006")
        await world.kernels.wait("k", ["RUNNING"])
        before = (await world.kernels.show("k")).ports
        await world.crash()
        lose(world)
        await world.start()
        assert (await world.kernels.show("k")).ports == before
        await world.create("other", ports="web:http:8080")
        await world.kernels.wait("other", ["RUNNING"])
        taken = {port.address for port in before}
        assert not taken & {port.address for port in (await world.kernels.show("other")).ports}

    live(body)


def test_a_port_that_a_dead_kernel_of_the_backup_had_stays_with_who_has_it_now(live):
    async def body(world):
        await world.crash()
        world.ports = range(30000, 30001)
        await world.start()
        await world.create("old", ports="web:http:8080")
        await world.kernels.wait("old", ["RUNNING"])
        await back_up(world)
        await world.kernels.destroy("old", "tired")
        await world.ended("old")
        await world.idle()
        world.seconds += 2 * world.cooldown
        await world.create("new", ports="web:http:8080")
        await world.kernels.wait("new", ["RUNNING"])
        before = (await world.kernels.show("new")).ports
        await world.crash()
        damage(world)
        await world.start()
        await world.ended("old")
        assert (await world.kernels.show("new")).ports == before
        assert [*world.services.ports.held.values()] == ["new"]

    live(body)


@pytest.mark.parametrize("trouble", ["fails", "hangs", "unknown", "no record", "another's record"])
def test_nothing_is_accepted_or_ended_until_the_records_can_be_read(live, trouble):
    async def body(world):
        await world.running()
        await world.crash()
        lose(world)
        record = world.backend.specs[CONTAINER].record
        change_record = {"no record": {}, "another's record": {**record, "container": "x"}}
        if trouble == "fails":
            world.script.fail("list")
        elif trouble == "hangs":
            world.script.gate("list")
        elif trouble == "unknown":
            world.backend.unknown.add(CONTAINER)
        else:
            _set_record(world, change_record[trouble])
        await world.start()
        assert world.ledger.reconciling
        for refused in (world.create("other"), world.kernels.plan({"image": "python"})):
            with pytest.raises(Reconciling):
                await refused
        for call in (
            world.kernels.destroy("k", "tired"),
            world.kernels.wait("k", ["RUNNING"]),
            world.kernels.destroy_session("k", "tired"),
        ):
            with pytest.raises(Reconciling):
                await call
        assert world.backend.states == {CONTAINER: ContainerState.RUNNING}

        later = asyncio.ensure_future(adopt_later(world.services, world.owners, world.faults))
        world.script.heal()
        world.script.open_all()
        world.backend.unknown.clear()
        _set_record(world, record)
        await later
        assert world.ledger.reconciling == ""
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        assert len(world.allocator.claims()) == 3
        await world.running("other")

    live(body, call_timeout=0.1)


def _set_record(world, record):
    spec = world.backend.specs[CONTAINER]
    world.backend.specs[CONTAINER] = type(spec)(
        **{name: getattr(spec, name) for name in spec.__dataclass_fields__} | {"record": record}
    )


def test_kernels_of_a_backup_can_be_listed_while_nobody_knows_whether_they_run(live):
    async def body(world):
        await world.running()
        await back_up(world)
        await world.crash()
        damage(world)
        world.script.fail("list")
        await world.start()
        rows = await world.kernels.list(include_ended=False)
        assert [(row.kernel_id, row.state) for row in rows] == [("k", "RUNNING")]
        with pytest.raises(Reconciling):
            await world.kernels.destroy("k", "tired")
        with pytest.raises(Reconciling):
            await world.kernels.runs("k")
        assert (await world.create()).state == "RUNNING"

    live(body)


# ---- an old backup -----------------------------------------------------------------------------


def test_a_kernel_that_was_in_the_middle_of_its_create_at_the_backup_runs_on(live):
    async def body(world):
        gate = world.script.gate("create")
        await world.create()
        await gate.reached.wait()
        await back_up(world)
        gate.open()
        await world.kernels.wait("k", ["RUNNING"])
        held = await world.holds()
        await world.crash()
        damage(world)
        await world.start()
        assert (await world.row()).state == "RUNNING"
        assert await world.holds() == dict.fromkeys(held, "held")
        assert world.backend.states == {CONTAINER: ContainerState.RUNNING}
        assert (await world.row()).spec["image"] == "python"

    live(body)


def test_a_kernel_of_the_backup_that_has_ended_since_is_ended(live):
    async def body(world):
        await world.running()
        await back_up(world)
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.idle()
        await world.crash()
        damage(world)
        await world.start()
        assert (await world.ended()).reason == "container-not-found"
        await world.idle()
        assert await world.holds() == {}
        assert world.allocator.claims() == ()

    live(body)


def test_a_kernel_that_is_newer_than_the_backup_is_rebuilt_beside_those_of_it(live):
    async def body(world):
        await world.running("old")
        await back_up(world)
        await world.running("new")
        held = await world.holds()
        await world.crash()
        damage(world)
        await world.start()
        rows = await world.kernels.list(include_ended=True)
        assert {(row.kernel_id, row.state) for row in rows} == {
            ("old", "RUNNING"),
            ("new", "RUNNING"),
        }
        assert await world.holds() == held
        (told,) = await recovered_events(world)
        assert (told["source"], told["kernels"]) == ("backup", ["new"])

    live(body)


def test_what_a_dead_kernel_of_the_backup_had_belongs_to_the_one_that_runs_with_it(live):
    """Both have all units: the one of the backup has ended since, and gave way to the other."""

    async def body(world):
        await world.create("old", slots=ALL_UNITS)
        await world.kernels.wait("old", ["RUNNING"])
        await back_up(world)
        await world.kernels.destroy("old", "tired")
        await world.ended("old")
        await world.idle()
        await world.create("new", slots=ALL_UNITS)
        await world.kernels.wait("new", ["RUNNING"])
        await world.crash()
        damage(world)
        await world.start()
        await world.ended("old")
        assert [claim.kernel_id for claim in world.allocator.claims()] == ["new"]
        assert world.backend.states == {"t.new.1.main.0": ContainerState.RUNNING}
        with pytest.raises(InsufficientResource):
            await world.create("third", slots={"aa.unit": "1"})

    live(body)


def test_a_kernel_that_was_restarted_since_the_backup_is_known_as_it_is_now(live):
    async def body(world):
        await world.running()
        await back_up(world)
        await world.kernels.restart("k", 1)
        await world.kernels.wait("k", ["RUNNING"])
        row, held = await world.row(), await world.holds()
        assert row.incarnation == 2
        await world.crash()
        damage(world)
        await world.start()
        now = await world.row()
        assert (now.state, now.incarnation, now.container) == ("RUNNING", 2, row.container)
        assert held.items() <= (await world.holds()).items()
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        assert world.backend.states == {row.container: ContainerState.RUNNING}
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


def test_a_container_that_was_made_and_never_started_is_undone(live):
    async def body(world):
        gate = world.script.gate("created")
        await world.create()
        await gate.reached.wait()
        await world.crash()
        world.script.open_all()
        lose(world)
        await world.start()
        assert (await world.ended()).reason == "create-interrupted"
        await world.idle()
        assert await world.holds() == {}
        assert world.backend.specs == {}

    live(body)


def test_a_container_that_ended_meanwhile_gives_its_kernel_an_end(live):
    async def body(world):
        await world.running()
        await world.crash()
        lose(world)
        world.backend.end(CONTAINER, 7)
        await world.start()
        row = await world.ended()
        assert (row.reason, row.exit_code) == ("self-terminated", 7)
        await world.idle()
        assert await world.holds() == {}

    live(body)


@pytest.mark.parametrize("trouble", [lose, damage])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_rebuilding_that_cannot_be_written_is_tried_again(live, fail_commit, side, trouble):
    async def body(world):
        await world.running()
        await world.crash()
        trouble(world)
        fail_commit(getattr(RECOVERED, side), 1)
        await world.start()
        await adopt_later(world.services, world.owners, world.faults)
        assert world.ledger.reconciling == ""
        assert (await world.kernels.wait("k", ["RUNNING"])).state == "RUNNING"
        assert len(await recovered_events(world)) == 1
        assert len(world.allocator.claims()) == 3

    live(body)
