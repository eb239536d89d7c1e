"""Whatever becomes of a ledger's file: its rows as they were, or a recovery; nothing else, ever."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import Ledger

from .conftest import PUT, Book, kernel

NAMES = [f"k{number:02}" for number in range(40)]


@pytest.fixture(scope="module")
def populated(tmp_path_factory):
    """A ledger of several pages in every table, closed in order, and its rows."""
    book = Book(tmp_path_factory.mktemp("populated") / "ledger.db")
    book.fill(*NAMES)
    return book.path.read_bytes(), book.rows()


def opened(path):
    """Open and close a ledger; its rows, and whether it was recovered."""
    ledger = Ledger(path)
    ledger.open()
    try:
        rows = asyncio.run(
            ledger.read(lambda tx: (tx.kernels(), tx.holds(), tx.events(None, 0, 1000)))
        )
    finally:
        ledger.close()
    return rows, ledger.recovery


def places():
    """A place in a file of any size, as a part of the whole."""
    return st.floats(0, 1, exclude_max=True)


DAMAGES = st.one_of(
    st.tuples(st.just("flip"), places(), st.integers(0, 7)),
    st.tuples(st.just("flip in the header"), places(), st.integers(0, 7)),
    st.tuples(st.just("overwrite"), places(), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("cut"), places(), st.none()),
)


def spoiled(data, what, place, with_):
    new = bytearray(data)
    at = int(place * (100 if "header" in what else len(data)))
    if what == "cut":
        del new[at:]
    elif what == "overwrite":
        new[at : at + len(with_)] = with_
    else:
        new[at] ^= 1 << with_
    return bytes(new)


@pytest.mark.timeout(240)
@settings(max_examples=100, deadline=None)
@given(damage=DAMAGES)
def test_a_spoiled_ledger_has_its_rows_or_is_recovered(populated, damage):
    whole, before = populated
    new = spoiled(whole, *damage)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        path.write_bytes(new)
        try:
            rows, recovery = opened(path)
        except LedgerFailed:
            assert path.read_bytes() == new
            return
        if recovery is None:
            assert rows == before
        else:
            assert rows == ([], [], [])
            assert (Path(recovery.kept) / "ledger.db").read_bytes() == new


# ---- the log -----------------------------------------------------------------------------------

LATE = [f"late{number}" for number in range(6)]
LOG_HEADER, FRAME = 32, 24 + 4096


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What an agent leaves that is killed: a database and a log with a transaction for each name.

    Returns the two, and where each transaction ends in the log.
    """
    book = Book(tmp_path_factory.mktemp("killed") / "ledger.db")
    book.fill("old")
    log = book.path.with_name("ledger.db-wal")
    ends, files = [], []

    async def body(ledger):
        for name in LATE:
            await ledger.write(PUT, lambda tx, n=name: tx.put_kernel(kernel(n)))
            ends.append(log.stat().st_size)
        files.extend(path.read_bytes() for path in (book.path, log))

    book.use(body)
    return (*files, ends)


def leaves_no_trace(what, place, with_, size, ends):
    """Damage that looks like the end of a sound log: nobody can tell that there was more."""
    at = int(place * size)
    if what == "cut":
        return at in (0, LOG_HEADER, *ends)
    # The generation in the header of the last frame: without it, it is one of an older log.
    length = len(with_) if what == "overwrite" else 1
    return at < size - FRAME + 16 and at + length > size - FRAME + 8


@pytest.mark.timeout(240)
@settings(max_examples=80, deadline=None)
@given(damage=DAMAGES)
def test_a_spoiled_log_loses_at_most_its_end_and_tells_that_it_did(killed, damage):
    database, log, ends = killed
    new = spoiled(log, *damage)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        path.write_bytes(database)
        path.with_name("ledger.db-wal").write_bytes(new)
        (kernels, _, _), recovery = opened(path)
        names = [row.kernel_id for row in kernels]
        assert names == [*LATE[: len(names) - 1], "old"]
        if len(names) - 1 == len(LATE):
            return
        if recovery is None:
            assert leaves_no_trace(*damage, len(log), ends)
        else:
            assert recovery.source == "itself"
            assert (Path(recovery.kept) / "ledger.db-wal").read_bytes() == new
