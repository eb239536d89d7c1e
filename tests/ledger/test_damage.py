"""Whatever becomes of a ledger's file: its rows as they were, or a recovery; nothing else, ever."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import Ledger

from .conftest import Book

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


@settings(max_examples=200, deadline=None)
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
