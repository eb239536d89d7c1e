"""A ledger that is damaged or lost: set aside, replaced, and marked until it is whole again."""

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import Ledger, recovery

FLIPPED_HEADER = 18


def spoil(path, how):
    """Damage a file as a disk, a person or a power failure might."""
    data = bytearray(path.read_bytes())
    if how == "empty":
        data.clear()
    elif how == "cut":
        del data[len(data) // 2 + 7 :]
    elif how == "cut in the header":
        del data[60:]
    elif how == "no database":
        data[:] = b"certainly not a database" * 100
    elif how == "zeroes":
        data[4096:] = bytes(len(data) - 4096)
    elif how == "header":
        data[FLIPPED_HEADER] ^= 0x40
    elif how == "page":
        data[4096] ^= 0x5A
    path.write_bytes(data)
    return bytes(data)


DAMAGES = ["empty", "cut", "cut in the header", "no database", "zeroes", "header", "page"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_ledger_is_set_aside_and_an_empty_one_waits_for_the_records(book, how):
    book.fill("k1", "k2")
    spoiled = spoil(book.path, how)
    ledger = book.open()
    assert ledger.reconciling
    assert ledger.recovery.source == "nothing"
    (kept,) = book.kept()
    assert ledger.recovery.kept == str(kept)
    assert (kept / "ledger.db").read_bytes() == spoiled
    assert (kept / "why.txt").read_text() == ledger.recovery.why
    assert book.names() == []


@pytest.mark.parametrize("how", [*DAMAGES, "gone"])
def test_the_last_backup_that_is_sound_takes_the_place_of_a_lost_ledger(book, how):
    book.fill("k1")
    first = book.back_up()
    book.fill("k2")
    second = book.back_up()
    spoil(second.path, "page")
    if how == "gone":
        book.path.unlink()
    else:
        spoil(book.path, how)
    ledger = book.open()
    assert (ledger.recovery.source, ledger.recovery.backup) == ("backup", str(first.path))
    assert ledger.reconciling
    assert book.names() == ["k1"]
    assert first.path.exists()
    assert second.path.exists()


def test_a_recovered_ledger_goes_on_with_ids_that_never_were(book):
    old = book.fill("k1")
    book.back_up()
    spoil(book.path, "page")
    new = book.open()
    assert int(new.epoch, 16) > int(old.epoch, 16)
    assert book.open().epoch == new.epoch


def test_a_first_start_has_lost_nothing_and_waits_for_the_records_all_the_same(book):
    ledger = book.open()
    assert ledger.recovery is None
    assert ledger.reconciling
    assert book.kept() == []


def test_a_log_without_its_database_is_never_applied_to_another(book, log_left_behind):
    log = log_left_behind("k1")
    written = log.read_bytes()
    book.path.unlink()
    ledger = book.open()
    assert ledger.recovery.source == "nothing"
    assert book.names() == []
    (kept,) = book.kept()
    assert (kept / "ledger.db-wal").read_bytes() == written


def test_what_a_killed_agent_left_in_its_log_is_there(book, log_left_behind):
    log_left_behind("k1", "k2")
    assert book.names() == ["k1", "k2", "old"]
    assert book.kept() == []
    assert not book.open().reconciling


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda log: b"garbage" * 1000, ["old"]),
        (lambda log: log[:20], ["old"]),
        (lambda log: bytes(len(log)), ["old"]),
        (lambda log: bytes([log[0] ^ 1]) + log[1:], ["old"]),
        (lambda log: log[:-500] + bytes([log[-500] ^ 1]) + log[-499:], ["k1", "old"]),
        (lambda log: log[:-100], ["k1", "old"]),
    ],
    ids=["garbage", "short", "zeroes", "header", "flipped", "cut"],
)
def test_a_log_whose_end_cannot_be_read_is_kept_and_the_rest_is_gone_on_with(
    book, log_left_behind, change, left
):
    log = log_left_behind("k1", "k2")
    spoiled = change(log.read_bytes())
    log.write_bytes(spoiled)
    ledger = book.open()
    assert (ledger.recovery.source, bool(ledger.reconciling)) == ("itself", True)
    (kept,) = book.kept()
    assert (kept / "ledger.db-wal").read_bytes() == spoiled
    assert (kept / "ledger.db").exists()
    assert book.names() == left


def test_what_cannot_be_read_for_another_reason_is_no_damage(book):
    book.fill("k1")
    blocker = sqlite3.connect(book.path, isolation_level=None)
    blocker.execute("PRAGMA locking_mode = EXCLUSIVE")
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(LedgerFailed, match="cannot read the ledger"):
            Ledger(book.path).open()
    finally:
        blocker.close()
    assert book.kept() == []
    assert book.names() == ["k1"]


def test_a_directory_in_the_place_of_the_ledger_is_refused(book):
    book.path.mkdir()
    with pytest.raises(LedgerFailed, match="Is a directory"):
        Ledger(book.path).open()


def test_a_database_of_something_else_is_set_aside(book):
    with sqlite3.connect(book.path) as db:
        db.execute("CREATE TABLE dogs (name TEXT)")
    db.close()
    assert "no ledger in this database" in book.open().recovery.why


def test_tables_that_somebody_changed_are_damage(book):
    book.fill("k1")
    with sqlite3.connect(book.path) as db:
        db.execute("DROP INDEX holds_by_kernel")
        db.execute("ALTER TABLE kernels ADD COLUMN colour TEXT")
    db.close()
    why = book.open().recovery.why
    assert "index holds_by_kernel is not as it was made" in why
    assert "table kernels is not as it was made" in why


def test_holds_of_nobody_are_damage(book):
    book.fill("k1")
    with sqlite3.connect(book.path) as db:
        db.execute("DELETE FROM kernels")
    db.close()
    assert book.open().recovery.why == "a row of holds has no row of kernels"


# ---- older and newer ---------------------------------------------------------------------------


def test_a_newer_ledger_is_refused_and_nothing_is_set_aside(book):
    book.fill("k1")
    with sqlite3.connect(book.path) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("UPDATE meta SET value = '99' WHERE key = 'version'")
    db.close()
    before = book.path.read_bytes()
    with pytest.raises(LedgerFailed, match="version 99") as caught:
        Ledger(book.path).open()
    assert "newer agent" in caught.value.hint
    assert book.path.read_bytes() == before
    assert book.kept() == []


def test_a_version_that_contradicts_itself_is_damage_and_not_a_newer_ledger(book):
    book.fill("k1")
    with sqlite3.connect(book.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "in another" in book.open().recovery.why


# ---- killed in the middle ----------------------------------------------------------------------

OPENER = """
import sys
from pathlib import Path
from agent_core.ledger import Ledger
Ledger(Path(sys.argv[1])).open()
"""
WALK = [
    (recovery.KEEPING.before, 1),
    (recovery.KEEPING.after, 1),
    (recovery.MOVING.before, 1),
    (recovery.MOVING.after, 1),
    (recovery.MOVING.before, 2),
    (recovery.MOVING.after, 2),
    (recovery.MOVING.before, 3),
    (recovery.MOVING.after, 3),
    (recovery.PLACING.before, 1),
    (recovery.PLACING.after, 1),
]


def walk(points):
    return [pytest.param(point, hit, id=f"{point.name}-{hit}") for point, hit in points]


def killed_at(book, point, hit=1):
    env = {**os.environ, "AGENT_FAILPOINTS": f"{point.name}=kill@{hit}"}
    done = subprocess.run(
        [sys.executable, "-c", OPENER, str(book.path)], env=env, timeout=30, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("point", "hit"), walk(WALK))
def test_a_recovery_that_is_killed_is_finished_by_the_next_start(book, log_left_behind, point, hit):
    log = log_left_behind("k1", "k2")
    book.back_up()
    spoiled = spoil(book.path, "page")
    written = log.read_bytes()
    killed_at(book, point, hit)
    ledger = book.open()
    assert ledger.recovery.source == "backup"
    assert "there was no ledger" not in ledger.recovery.why
    assert ledger.reconciling
    assert book.names() == ["k1", "k2", "old"]
    (kept,) = book.kept()
    assert (kept / "ledger.db").read_bytes() == spoiled
    assert (kept / "ledger.db-wal").read_bytes() == written
    assert (kept / "why.txt").exists()
    assert not (kept / "unfinished").exists()


@pytest.mark.parametrize(("point", "hit"), walk(WALK))
def test_a_kept_tail_that_is_killed_in_the_middle_is_kept_by_the_next_start(
    book, log_left_behind, point, hit
):
    log = log_left_behind("k1", "k2")
    log.write_bytes(log.read_bytes()[:-100])
    killed_at(book, point, hit)
    ledger = book.open()
    assert (ledger.recovery.source, bool(ledger.reconciling)) == ("itself", True)
    assert book.names() == ["k1", "old"]
    (kept,) = book.kept()
    assert (kept / "why.txt").exists()


@pytest.mark.parametrize(
    "point", [recovery.PLACING.before, recovery.PLACING.after], ids=lambda p: p.name
)
def test_a_first_start_that_is_killed_is_a_first_start_again(book, point):
    killed_at(book, point)
    ledger = book.open()
    assert ledger.recovery is None
    assert book.kept() == []
