"""Looking at a ledger: what is in it and how it is; nothing is changed by that."""

import os
import time

import pytest

from agent_core.contracts.errors import InvalidArgument, LedgerFailed, NotFound
from agent_core.ledger import BackupKeeper, Recovery, StateLock
from agent_core.ledger.lock import holder_of
from agent_core.ledger.report import check_file, conditions_of, view_file
from agent_core.ledger.store import Fault
from agent_core.wire.models import CONDITIONS


def files(book):
    return {path.name: path.read_bytes() for path in book.directory.rglob("*") if path.is_file()}


def test_a_sound_ledger_is_told_with_what_is_in_it(book):
    book.fill("k1", "k2")
    backup = book.back_up()
    before = files(book)
    found, shown = check_file(book.path), view_file(book.path)
    assert files(book) == before
    assert (found.ok, found.condition, found.version) == (True, "sound", found.known_version)
    assert found.rows == {"kernels": 2, "holds": 2, "outbox": 2}
    assert [(row.path, row.sound) for row in found.backups] == [(str(backup.path), True)]
    assert found.used_by is None
    assert shown.kernels == {"RUNNING": 2}
    assert [(h.kind, h.key, h.state, h.since) for h in shown.holds] == [
        ("scratch", "k1", "held", 1.0),
        ("scratch", "k2", "held", 1.0),
    ]
    assert (shown.holds_total, shown.outbox) == (2, 2)
    assert shown.last_backup.path == str(backup.path)
    assert (shown.reconciling, shown.recovery) == ("", None)


def test_looking_at_what_a_killed_agent_left_does_not_replay_its_log(book, log_left_behind):
    log_left_behind("k1")
    before = files(book)
    assert check_file(book.path).rows["kernels"] == 2
    assert view_file(book.path).kernels == {"RUNNING": 2}
    assert files(book) == before


def test_a_damaged_ledger_is_told_with_what_the_next_start_will_do(book):
    book.fill("k1")
    book.path.write_bytes(book.path.read_bytes()[:5000])
    found = check_file(book.path)
    assert (found.ok, found.condition, found.rows) == (False, "damaged", {})
    assert found.problems
    assert "an empty ledger" in found.next_start
    with pytest.raises(LedgerFailed, match="damaged"):
        view_file(book.path)
    ledger = book.open()
    assert ledger.recovery.source == "nothing"


def test_a_ledger_that_is_gone_is_told_where_there_is_a_backup(book):
    book.fill("k1")
    backup = book.back_up()
    book.path.unlink()
    found = check_file(book.path)
    assert (found.ok, found.condition) == (False, "missing")
    assert str(backup.path) in found.next_start
    assert book.open().recovery.backup == str(backup.path)


def test_a_log_with_an_end_that_cannot_be_read_is_told(book, log_left_behind):
    log = log_left_behind("k1", "k2")
    log.write_bytes(log.read_bytes()[:-100])
    found = check_file(book.path)
    assert (found.ok, found.condition) == (False, "incomplete")
    assert found.rows["kernels"] == 2


def test_a_path_without_a_ledger_is_refused(book, tmp_path):
    with pytest.raises(NotFound, match="there is no ledger"):
        check_file(book.path)
    with pytest.raises(NotFound, match="there is no ledger"):
        view_file(book.path)
    with pytest.raises(InvalidArgument, match="is not a file"):
        check_file(tmp_path)
    (tmp_path / "text").write_text("certainly not a database\n" * 100)
    found = check_file(tmp_path / "text")
    assert (found.ok, found.problems) == (False, ["the file is not an SQLite database"])


def test_who_has_a_state_directory_is_known_without_touching_its_lock(tmp_path):
    assert holder_of(tmp_path) is None
    with StateLock(tmp_path):
        assert holder_of(tmp_path) == os.getpid()
    assert holder_of(tmp_path) is None


def test_each_condition_is_told_with_its_code(book):
    async def body(ledger):
        keeper = BackupKeeper(ledger)
        assert conditions_of(ledger, keeper) == []
        ledger.fault = Fault("database or disk is full", 5.0)
        ledger.reconciling = "the runtime does not answer"
        ledger.recovery = Recovery(time.time(), "the file is empty", "backup", "/b/x.db", "/kept")
        keeper.fault = "cannot write the backup"
        return conditions_of(ledger, keeper)

    book.fill("k1")
    told = book.use(body)[1]
    assert [condition.code for condition in told] == [*CONDITIONS]
    assert told[0].since == 5.0
    assert "full" in told[0].message
    assert "does not answer" in told[1].message
    assert "the file is empty" in told[2].message
    assert "/b/x.db" in told[2].message
    assert "/kept" in told[2].message


def test_a_loss_of_long_ago_is_no_condition_any_more(book):
    async def body(ledger):
        ledger.recovery = Recovery(1.0, "the file is empty", "nothing")
        return conditions_of(ledger, BackupKeeper(ledger))

    book.fill("k1")
    assert book.use(body)[1] == []
