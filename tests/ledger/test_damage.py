"""Whatever becomes of a ledger's file: its rows as they were, or a recovery; nothing else, ever."""

import asyncio
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import HoldRow, HoldState, Ledger

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


@st.composite
def damages(draw, size):
    """A few flipped bits, bytes set to anything, or a file that is cut or grown."""
    what = draw(st.sampled_from(["flip", "flip", "flip", "cut", "overwrite"]))
    if what == "cut":
        return ("cut", draw(st.integers(0, size - 1)), b"")
    at = draw(st.integers(0, size - 1))
    if what == "flip":
        return ("flip", at, draw(st.integers(0, 7)))
    return ("overwrite", at, draw(st.binary(min_size=1, max_size=64)))


def spoiled(data, damage):
    what, at, with_ = damage
    new = bytearray(data)
    if what == "cut":
        del new[at:]
    elif what == "flip":
        new[at] ^= 1 << with_
    else:
        new[at : at + len(with_)] = with_
    return bytes(new)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_spoiled_ledger_has_its_rows_or_is_recovered(populated, data):
    whole, before = populated
    new = spoiled(whole, data.draw(damages(len(whole))))
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
