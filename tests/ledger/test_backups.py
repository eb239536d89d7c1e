"""Backups: whole, of one moment, made beside the writers, and never in the way of a better one."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from agent_core.contracts.errors import Conflict, LedgerFailed, Reconciling
from agent_core.ledger import BackupKeeper, Ledger, backups
from agent_core.ledger.examination import Condition, examine

from .conftest import PUT, kernel


def names_in(path):
    book = Ledger(path)
    book.open()
    try:
        return asyncio.run(book.read(lambda tx: [row.kernel_id for row in tx.kernels()]))
    finally:
        book.close()


def test_a_backup_has_what_was_there_and_can_be_opened_by_itself(book, tmp_path):
    book.fill("k1", "k2")
    made = book.back_up()
    assert made.path.parent == book.directory / "backups"
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name]
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert examine(made.path).condition is Condition.SOUND
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    made.path.rename(alone / "ledger.db")
    assert names_in(alone / "ledger.db") == ["k1", "k2"]


def test_the_last_two_backups_are_kept(book):
    for number in range(4):
        book.fill(f"k{number}")
        last = book.back_up()
    kept = Ledger(book.path).backups.list()
    assert len(kept) == 2
    assert kept[0] == last
    assert kept[0].path.name > kept[1].path.name


def test_a_backup_replaces_nothing(book, tmp_path):
    book.fill("k1")
    there = tmp_path / "there"
    there.write_text("precious")
    with pytest.raises(Conflict, match="exists"):
        Ledger(book.path).backups.make(there)
    with pytest.raises(Conflict, match="exists"):
        Ledger(book.path).backups.make(book.path)
    assert there.read_text() == "precious"


def test_a_backup_that_cannot_be_written_says_so_and_leaves_nothing(book, tmp_path):
    book.fill("k1")
    with pytest.raises(LedgerFailed, match="cannot write the backup"):
        Ledger(book.path).backups.make(tmp_path / "nowhere" / "b.db")
    (tmp_path / "backups").write_text("a file where the directory should be")
    with pytest.raises(LedgerFailed, match="cannot write the backup"):
        book.back_up()


def test_a_damaged_ledger_is_no_backup(book):
    book.fill("k1")
    good = book.back_up()
    data = bytearray(book.path.read_bytes())
    data[4096] ^= 0x5A
    book.path.write_bytes(data)
    with pytest.raises(LedgerFailed):
        book.back_up()
    assert Ledger(book.path).backups.list() == [good]
    assert [path.name for path in good.path.parent.iterdir()] == [good.path.name]


def test_a_backup_is_of_one_moment_while_others_write(book):
    """Each transaction writes a pair; a backup in between two of its halves would have one."""

    def pair(number):
        def put(tx):
            tx.put_kernel(kernel(f"a{number}"))
            tx.put_kernel(kernel(f"b{number}"))

        return put

    async def body(ledger):
        keeper = BackupKeeper(ledger)
        making = asyncio.ensure_future(keeper.back_up())
        number = 0
        while not making.done() or number < 50:
            await ledger.write(PUT, pair(number))
            number += 1
        await ledger.write(PUT, pair(number))
        return making.result(), number

    book.fill()
    _, (made, written) = book.use(body)
    found = names_in(made.path)
    assert len(found) % 2 == 0
    assert {name[1:] for name in found if name[0] == "a"} == {
        name[1:] for name in found if name[0] == "b"
    }
    assert len(found) < 2 * (written + 1)


def test_the_loop_and_the_writers_go_on_while_a_backup_is_stuck(book, monkeypatch):
    reached, go_on = threading.Event(), threading.Event()

    def stuck(source, target):
        reached.set()
        assert go_on.wait(30)
        real(source, target)

    real = backups.copy
    monkeypatch.setattr(backups, "copy", stuck)

    async def body(ledger):
        making = asyncio.ensure_future(BackupKeeper(ledger).back_up())
        await asyncio.to_thread(reached.wait, 30)
        await ledger.write(PUT, lambda tx: tx.put_kernel(kernel("meanwhile")))
        assert not making.done()
        go_on.set()
        return await making

    book.fill("k1")
    _, made = book.use(body)
    assert names_in(made.path) == ["k1", "meanwhile"]


# ---- the keeper --------------------------------------------------------------------------------


def test_a_backup_is_made_by_itself_only_where_something_changed(book):
    async def body(ledger):
        keeper, counts = BackupKeeper(ledger), []
        for name in ("", "k2", "", "k3"):
            if name:
                await ledger.write(PUT, lambda tx, n=name: tx.put_kernel(kernel(n)))
            await keeper.back_up_changes()
            counts.append(len(ledger.backups.list()))
        return counts

    book.fill("k1")
    assert book.use(body)[1] == [0, 1, 1, 2]


def test_a_backup_that_fails_by_itself_is_a_fault_until_one_succeeds(book):
    async def body(ledger):
        keeper, faults = BackupKeeper(ledger), []
        place = ledger.backups.directory
        place.write_text("a file where the directory should be")
        await ledger.write(PUT, lambda tx: tx.put_kernel(kernel("k2")))
        await keeper.back_up_changes()
        faults.append(keeper.fault)
        place.unlink()
        await keeper.back_up_changes()
        return [*faults, keeper.fault]

    book.fill("k1")
    first, second = book.use(body)[1]
    assert "cannot write the backup" in first
    assert second == ""


def test_a_ledger_that_may_lack_rows_is_not_backed_up(book):
    async def body(ledger):
        keeper = BackupKeeper(ledger)
        await ledger.write(PUT, lambda tx: tx.put_kernel(kernel("k2")))
        await keeper.back_up_changes()
        with pytest.raises(Reconciling):
            await keeper.back_up()
        return ledger.backups.list()

    assert book.use(body)[1] == []


# ---- killed in the middle ----------------------------------------------------------------------

MAKER = """
import sys
from pathlib import Path
from agent_core.ledger import Backups
Backups(Path(sys.argv[1])).make()
"""


@pytest.mark.parametrize(
    ("point", "more"),
    [(backups.MAKING.before, 0), (backups.MAKING.after, 1)],
    ids=lambda p: getattr(p, "name", p),
)
def test_a_backup_that_is_killed_in_the_middle_leaves_only_whole_ones(book, point, more):
    book.fill("k1")
    good = [book.back_up(), book.back_up()]
    env = {**os.environ, "AGENT_FAILPOINTS": f"{point.name}=kill"}
    done = subprocess.run(
        [sys.executable, "-c", MAKER, str(book.path)], env=env, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    kept = Ledger(book.path).backups
    assert len(kept.list()) == len(good) + more
    assert [backup.path for backup in kept.sound()] == [backup.path for backup in kept.list()]
    book.back_up()
    assert len([*kept.directory.iterdir()]) == 2


def test_reading_a_backup_needs_no_right_to_write(book):
    book.fill("k1")
    made = book.back_up()
    made.path.chmod(0o400)
    assert examine(made.path).condition is Condition.SOUND
