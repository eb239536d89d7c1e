"""The ledger: durable when acknowledged, grouped, owned by one agent, honest about damage."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core.contracts.errors import InternalError, LedgerFailed, StateDirectoryInUse
from agent_core.ledger import Commit, HoldRow, HoldState, KernelRow, Ledger, StateLock, store, sums

PUT = Commit("test-put", "a row of a test")


def kernel(name="k1", **changes):
    values = {
        "kernel_id": name,
        "session_id": "s",
        "state": "PREPARING",
        "spec": {"image": "python"},
        "spec_digest": "d",
        "created_at": 1.0,
    }
    return KernelRow(**{**values, **changes})


def run(path, work):
    async def body(ledger):
        return await work(ledger)

    ledger = Ledger(path)
    ledger.open()
    try:
        return asyncio.run(body(ledger))
    finally:
        ledger.close()


def test_rows_come_back_as_they_were_written_after_a_reopen(tmp_path):
    row = kernel(warnings=("w",), timings=(("image", 0.5, 0.1),), exit_code=3)
    hold = HoldRow("scratch", "k1", "k1", undo={"path": "/x"}, order=2)

    def put(tx):
        tx.put_kernel(row)
        tx.put_holds([hold])
        return tx.add_event("kernel.preparing", 2.0, kernel_id="k1", data={"a": 1})

    event = run(tmp_path / "l.db", lambda ledger: ledger.write(PUT, put))
    rows, holds, events = run(
        tmp_path / "l.db",
        lambda ledger: ledger.read(
            lambda tx: (tx.kernels(), tx.holds("k1"), tx.events(None, 0, 9))
        ),
    )
    assert rows == [row]
    assert holds == [hold]
    assert events == [event]


def test_concurrent_writers_share_a_commit(tmp_path):
    async def many(ledger):
        before = ledger.commits
        names = [f"k{i}" for i in range(200)]
        await asyncio.gather(
            *(ledger.write(PUT, lambda tx, n=name: tx.put_kernel(kernel(n))) for name in names)
        )
        return ledger.commits - before, len(await ledger.read(lambda tx: tx.kernels()))

    commits, rows = run(tmp_path / "l.db", many)
    assert rows == 200
    assert commits < 50


def test_a_failing_writer_undoes_only_its_own_changes(tmp_path):
    def bad(tx):
        tx.put_kernel(kernel("bad"))
        raise ValueError("no")

    async def both(ledger):
        good = ledger.write(PUT, lambda tx: tx.put_kernel(kernel("good")))
        results = await asyncio.gather(ledger.write(PUT, bad), good, return_exceptions=True)
        return results, [k.kernel_id for k in await ledger.read(lambda tx: tx.kernels())]

    results, rows = run(tmp_path / "l.db", both)
    assert isinstance(results[0], ValueError)
    assert results[1] is None
    assert rows == ["good"]


def test_cancelling_the_wait_does_not_undo_the_transaction(tmp_path):
    async def cancelled(ledger):
        task = asyncio.ensure_future(ledger.write(PUT, lambda tx: tx.put_kernel(kernel())))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await ledger.read(lambda tx: tx.kernel("k1"))

    assert run(tmp_path / "l.db", cancelled) == kernel()


def test_holds_are_marked_and_dropped_by_kind_and_key(tmp_path):
    holds = [HoldRow("a", "1", "k1", order=0), HoldRow("b", "1", "k1", order=1)]

    def work(tx):
        tx.put_kernel(kernel())
        tx.put_holds(holds)
        tx.mark_holds("k1", HoldState.RELEASING)
        tx.drop_holds([holds[1]])
        return tx.holds()

    left = run(tmp_path / "l.db", lambda ledger: ledger.write(PUT, work))
    assert [(h.kind, h.state) for h in left] == [("a", HoldState.RELEASING)]


def test_event_ids_never_repeat_after_old_ones_were_forgotten(tmp_path):
    def end(tx):
        tx.put_kernel(kernel(ended_at=1.0))
        return tx.add_event("kernel.terminated", 1.0, kernel_id="k1").sequence

    async def life(ledger):
        first = await ledger.write(PUT, end)
        forgotten = await ledger.write(PUT, lambda tx: tx.forget_ended(before=5.0))
        return first, forgotten, await ledger.write(PUT, end)

    first, forgotten, second = run(tmp_path / "l.db", life)
    assert forgotten == ["k1"]
    assert second > first


def test_ended_kernels_that_still_hold_something_are_kept(tmp_path):
    def end(tx):
        tx.put_kernel(kernel(ended_at=1.0))
        tx.put_holds([HoldRow("scratch", "k1", "k1", state=HoldState.DIRTY)])
        return tx.forget_ended(before=5.0)

    assert run(tmp_path / "l.db", lambda ledger: ledger.write(PUT, end)) == []


def test_it_is_said_of_each_known_kernel_whether_it_has_ended(tmp_path):
    def ask(tx):
        tx.put_kernel(kernel("k1", ended_at=1.0))
        tx.put_kernel(kernel("k2"))
        return tx.have_ended(["k1", "k2", "k3"]), tx.have_ended([])

    answers = run(tmp_path / "l.db", lambda ledger: ledger.write(PUT, ask))
    assert answers == ({"k1": True, "k2": False}, {})


def test_a_changed_boot_id_begins_a_new_epoch(tmp_path):
    path = tmp_path / "l.db"
    first = Ledger(path)
    first.open()
    first.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
        sums.write_all(db)
    db.close()
    second = Ledger(path)
    second.open()
    second.close()
    assert not first.boot_changed
    assert second.boot_changed
    assert second.epoch != first.epoch


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "l.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerFailed, match="version 99"):
        Ledger(path).open()


def test_a_damaged_ledger_is_detected_at_open_and_not_left_open(tmp_path):
    path = tmp_path / "l.db"
    path.write_bytes(b"not a database, certainly not" * 100)
    ledger = Ledger(path)
    ledger.open()
    ledger.close()
    assert ledger.recovery.why == "the file is not an SQLite database"
    open_files = [str(fd.resolve()) for fd in Path("/proc/self/fd").iterdir()]
    assert str(path) not in open_files


def test_a_closed_ledger_refuses_work(tmp_path):
    with pytest.raises(LedgerFailed, match="not open"):
        asyncio.run(Ledger(tmp_path / "l.db").read(lambda tx: tx.kernels()))


def test_the_state_lock_names_the_pid_of_its_holder(tmp_path):
    with (
        StateLock(tmp_path),
        pytest.raises(StateDirectoryInUse, match=f"pid {os.getpid()}") as caught,
    ):
        StateLock(tmp_path).acquire()
    assert caught.value.details["pid"] == os.getpid()
    StateLock(tmp_path).acquire()


WRITER = """
import asyncio, sys
from pathlib import Path
from agent_core.ledger import Commit, KernelRow, Ledger
PUT = Commit("walk", "a row")
async def main():
    ledger = Ledger(Path(sys.argv[1])); ledger.open()
    row = KernelRow("k1", "s", "PREPARING", {}, "d", 1.0)
    await ledger.write(PUT, lambda tx: tx.put_kernel(row))
asyncio.run(main())
"""


@pytest.mark.parametrize(("point", "durable"), [("before", False), ("after", True)])
def test_a_kill_around_a_commit_leaves_all_or_nothing(tmp_path, point, durable):
    path = tmp_path / "l.db"
    env = {**os.environ, "AGENT_FAILPOINTS": f"commit.walk.{point}=kill"}
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], env=env, timeout=30)
    assert done.returncode == -signal.SIGKILL
    found = run(Path(path), lambda ledger: ledger.read(lambda tx: tx.kernel("k1")))
    assert (found is not None) is durable


def test_reading_goes_on_where_nothing_can_be_written_any_more(tmp_path):
    path = tmp_path / "l.db"

    async def body(ledger):
        await ledger.write(PUT, lambda tx: tx.put_kernel(kernel()))
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")  # nobody else can write
        try:
            return await asyncio.wait_for(ledger.read(lambda tx: tx.kernel("k1")), 2)
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()

    assert run(path, body) == kernel()


def test_a_commit_that_fails_in_an_unforeseen_way_is_told_and_stops_nobody(tmp_path, monkeypatch):
    class Rotten(Commit):
        before = property(lambda _self: 1 / 0)  # type: ignore[assignment]

        def __init__(self):
            pass

    async def body(ledger):
        with pytest.raises(LedgerFailed, match="division"):
            await ledger.write(Rotten(), lambda tx: tx.put_kernel(kernel()))
        await ledger.write(PUT, lambda tx: tx.put_kernel(kernel("k2")))
        return [row.kernel_id for row in await ledger.read(lambda tx: tx.kernels())]

    assert run(tmp_path / "l.db", body) == ["k2"]


def test_a_refused_ledger_is_not_left_open(tmp_path):
    path = tmp_path / "l.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    ledger = Ledger(path)
    with pytest.raises(LedgerFailed):
        ledger.open()
    assert ledger._db is None


def test_rows_whose_data_cannot_be_read_hide_no_others(tmp_path):
    path = tmp_path / "l.db"

    def put(tx):
        for name in ("k1", "k2"):
            tx.put_kernel(kernel(name))
            tx.put_holds([HoldRow("scratch", name, name, undo={"a": 1})])

    run(path, lambda ledger: ledger.write(PUT, put))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE kernels SET spec = 'no json' WHERE kernel_id = 'k1'")
        db.execute("UPDATE holds SET undo = '[]' WHERE kernel_id = 'k1'")
        sums.write_all(db)
    db.close()
    rows, holds = run(path, lambda ledger: ledger.read(lambda tx: (tx.kernels(), tx.holds())))
    assert [row.spec for row in rows] == [{}, {"image": "python"}]
    assert [hold.undo for hold in holds] == [{}, {"a": 1}]


def test_a_lock_that_cannot_be_made_says_where(tmp_path):
    with pytest.raises(LedgerFailed, match="cannot lock the state directory"):
        StateLock(tmp_path / "nowhere").acquire()


# ---- who holds what ----------------------------------------------------------------------------


def two_kernels(tx):
    for name in ("k1", "k2"):
        tx.put_kernel(kernel(name))


def test_what_is_not_shared_cannot_be_held_twice(tmp_path):
    async def body(ledger):
        await ledger.write(PUT, two_kernels)
        await ledger.write(PUT, lambda tx: tx.put_holds([HoldRow("port", "30000", "k1")]))
        second = ledger.write(PUT, lambda tx: tx.put_holds([HoldRow("port", "30000", "k2")]))
        with pytest.raises(InternalError, match="cannot be written"):
            await second
        return await ledger.read(lambda tx: tx.holders("port", "30000"))

    assert run(tmp_path / "l.db", body) == ["k1"]


def test_what_is_shared_has_a_row_for_each_kernel_and_each_drops_its_own(tmp_path):
    def use(name):
        return HoldRow("network", "n", name, shared=True)

    async def body(ledger):
        await ledger.write(PUT, two_kernels)
        await ledger.write(PUT, lambda tx: tx.put_holds([use("k1"), use("k2")]))
        both = await ledger.read(lambda tx: tx.holders("network", "n"))
        await ledger.write(PUT, lambda tx: tx.drop_holds([use("k1")]))
        return both, await ledger.read(lambda tx: tx.holds())

    assert run(tmp_path / "l.db", body) == (["k1", "k2"], [use("k2")])


# ---- older versions ----------------------------------------------------------------------------

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE kernels (
    kernel_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, state TEXT NOT NULL, spec TEXT NOT NULL,
    spec_digest TEXT NOT NULL, created_at REAL NOT NULL, incarnation INTEGER NOT NULL, reason TEXT,
    message TEXT, exit_code INTEGER, started_at REAL, ended_at REAL, container TEXT,
    warnings TEXT NOT NULL, timings TEXT NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX kernels_by_end ON kernels (ended_at);
CREATE TABLE holds (
    kind TEXT NOT NULL, key TEXT NOT NULL, kernel_id TEXT NOT NULL REFERENCES kernels,
    incarnation INTEGER NOT NULL, state TEXT NOT NULL, undo TEXT NOT NULL,
    ordinal INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX holds_by_kernel ON holds (kernel_id);
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, name TEXT NOT NULL,
    at REAL NOT NULL, kernel_id TEXT, session_id TEXT, data TEXT NOT NULL
);
CREATE INDEX outbox_by_kernel ON outbox (kernel_id);
INSERT INTO kernels VALUES ('k1','s','PREPARING','{"image":"python"}','d',1.0,1,NULL,NULL,NULL,
    NULL,NULL,NULL,'[]','[]',1);
INSERT INTO holds VALUES ('scratch','k1','k1',1,'held','{"path":"/x"}',2,'');
PRAGMA user_version = 1;
"""


def test_a_ledger_of_the_first_version_opens_with_all_its_rows(tmp_path):
    path = tmp_path / "l.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(VERSION_1)
    read = run(path, lambda ledger: ledger.read(lambda tx: (tx.kernels(), tx.holds())))
    held = HoldRow("scratch", "k1", "k1", 1, HoldState.HELD, {"path": "/x"}, 2)
    assert read == ([kernel()], [held])
    assert run(path, lambda ledger: ledger.read(lambda tx: tx.kernels())) == [kernel()]


VERSION_2 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE kernels (
    kernel_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, state TEXT NOT NULL, spec TEXT NOT NULL,
    spec_digest TEXT NOT NULL, created_at REAL NOT NULL, incarnation INTEGER NOT NULL, reason TEXT,
    message TEXT, exit_code INTEGER, started_at REAL, ended_at REAL, container TEXT,
    warnings TEXT NOT NULL, timings TEXT NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX kernels_by_end ON kernels (ended_at);
CREATE TABLE holds (
    kind TEXT NOT NULL, key TEXT NOT NULL, kernel_id TEXT NOT NULL REFERENCES kernels,
    incarnation INTEGER NOT NULL, state TEXT NOT NULL, undo TEXT NOT NULL,
    ordinal INTEGER NOT NULL, note TEXT NOT NULL, shared INTEGER NOT NULL,
    PRIMARY KEY (kind, key, kernel_id)
) WITHOUT ROWID;
CREATE INDEX holds_by_kernel ON holds (kernel_id);
CREATE UNIQUE INDEX holds_of_one ON holds (kind, key) WHERE shared = 0;
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, name TEXT NOT NULL,
    at REAL NOT NULL, kernel_id TEXT, session_id TEXT, data TEXT NOT NULL
);
CREATE INDEX outbox_by_kernel ON outbox (kernel_id);
INSERT INTO meta VALUES ('boot_id', 'b'), ('epoch', 'e');
INSERT INTO kernels VALUES ('k1','s','PREPARING','{"image":"python"}','d',1.0,1,NULL,NULL,NULL,
    NULL,NULL,NULL,'[]','[]',1);
INSERT INTO holds VALUES ('scratch','k1','k1',1,'held','{"path":"/x"}',2,'',0);
INSERT INTO outbox VALUES (7,'e','kernel.preparing',1.0,'k1','s','{"a":1}');
PRAGMA user_version = 2;
"""


def test_a_ledger_of_the_second_version_opens_with_all_its_rows(tmp_path):
    path = tmp_path / "l.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(VERSION_2)

    def read(tx):
        return tx.kernels(), tx.holds(), tx.events(None, 0, 9)

    for _ in range(2):
        rows, holds, events = run(path, lambda ledger: ledger.read(read))
        assert rows == [kernel()]
        assert holds == [HoldRow("scratch", "k1", "k1", 1, HoldState.HELD, {"path": "/x"}, 2)]
        assert [(event.id, event.data) for event in events] == [("e-7", {"a": 1})]
    assert (tmp_path / "l.db.v2").exists()
    assert not (tmp_path / "l.db.v2.2").exists()


def test_tables_that_were_upgraded_are_those_that_are_made_now(tmp_path):
    shapes = []
    for number, script in enumerate(["", VERSION_1, VERSION_2]):
        path = tmp_path / f"{number}.db"
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.executescript(script)
        if not script:
            path.unlink()
        run(path, lambda ledger: ledger.read(lambda tx: tx.kernels()))
        with contextlib.closing(sqlite3.connect(path)) as now:
            tables = ("meta", "kernels", "holds", "outbox")
            shapes.append([now.execute(f"PRAGMA table_xinfo({t})").fetchall() for t in tables])
            shapes[-1].append(now.execute("PRAGMA index_list(holds)").fetchall())
    assert shapes[0] == shapes[1] == shapes[2]


def test_an_older_ledger_is_copied_before_it_is_upgraded(tmp_path):
    path = tmp_path / "l.db"
    for _ in range(2):
        path.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.executescript(VERSION_1)
        run(path, lambda ledger: ledger.read(lambda tx: tx.kernels()))
    for copy in (tmp_path / "l.db.v1", tmp_path / "l.db.v1.2"):
        with contextlib.closing(sqlite3.connect(copy)) as kept:
            assert kept.execute("PRAGMA user_version").fetchone() == (1,)
            assert kept.execute("SELECT kernel_id FROM holds").fetchall() == [("k1",)]


@pytest.mark.parametrize("side", ["before", "after"])
def test_an_upgrade_that_is_killed_is_made_by_the_next_start(tmp_path, side):
    path = tmp_path / "l.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(VERSION_1)
    env = {**os.environ, "AGENT_FAILPOINTS": f"effect.ledger-copy-older.{side}=kill"}
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], env=env, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert run(path, lambda ledger: ledger.read(lambda tx: tx.kernels())) == [kernel()]
    assert len([*tmp_path.glob("l.db.v1*")]) == (1 if side == "before" else 2)


def test_an_older_backup_takes_the_place_of_a_lost_ledger(tmp_path):
    path = tmp_path / "l.db"
    (tmp_path / "backups").mkdir()
    backup = tmp_path / "backups" / "ledger-20260101T000000000.db"
    with contextlib.closing(sqlite3.connect(backup)) as old:
        old.executescript(VERSION_1)
    assert run(path, lambda ledger: ledger.read(lambda tx: tx.kernels())) == [kernel()]
    with contextlib.closing(sqlite3.connect(backup)) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_read_beside_a_write_that_fails_is_answered(tmp_path, monkeypatch):
    """Both share a transaction; the read sees what is there without the write."""

    async def both(ledger):
        def full(point):
            if point == PUT.before:
                raise OSError("no space left on device")

        monkeypatch.setattr(store.failpoints, "hit", full)
        failing = ledger.write(PUT, lambda tx: tx.put_kernel(kernel()))
        reading = ledger.read(lambda tx: tx.kernels())
        return await asyncio.gather(failing, reading, return_exceptions=True)

    failed, rows = run(tmp_path / "l.db", both)
    assert isinstance(failed, LedgerFailed)
    assert rows == []
