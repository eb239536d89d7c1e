"""A sum in each row, so that a changed bit is noticed where SQLite itself has no check.

The sums are kept by triggers of the connection, not of the file: whoever writes a ledger must call
`keep` first. Rows that were written otherwise count as damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final
from zlib import crc32

TABLES: Final = ("meta", "kernels", "holds", "outbox")
_COLUMN: Final = "sum"


def keep(db: sqlite3.Connection) -> None:
    """Let every write by this connection keep the sums."""
    _teach(db)
    for table in TABLES:
        columns, key = _columns(db, table)
        if not columns:  # an older version's; it has none yet
            continue
        match = " AND ".join(f"{name} IS NEW.{name}" for name in key)
        change = f"UPDATE {table} SET {_COLUMN} = {_sum_of(columns)} WHERE {match}"  # noqa: S608 - names are ours
        watched = ", ".join(columns)
        db.execute(
            f"CREATE TEMP TRIGGER {table}_made AFTER INSERT ON main.{table} BEGIN {change}; END"
        )
        db.execute(
            f"CREATE TEMP TRIGGER {table}_changed AFTER UPDATE OF {watched} ON main.{table} "
            f"BEGIN {change}; END"
        )


def write_all(db: sqlite3.Connection) -> None:
    """Write the sum of every row anew, as it stands there now."""
    _teach(db)
    for table in TABLES:
        columns, _ = _columns(db, table)
        db.execute(f"UPDATE {table} SET {_COLUMN} = {_sum_of(columns)}")  # noqa: S608 - names are ours


def wrong(db: sqlite3.Connection) -> Iterator[str]:
    """Name the tables that have rows with a wrong sum."""
    _teach(db)
    for table in TABLES:
        columns, _ = _columns(db, table)
        count = f"SELECT count(*) FROM {table} WHERE {_COLUMN} IS NOT {_sum_of(columns)}"  # noqa: S608 - names are ours
        (found,) = db.execute(count).fetchone()
        if found:
            yield f"{found} rows of {table} are not as they were written"


def _teach(db: sqlite3.Connection) -> None:
    db.create_function("row_sum", -1, _row_sum, deterministic=True)


def _row_sum(*values: object) -> int:
    return crc32(repr(values).encode())


def _sum_of(columns: list[str]) -> str:
    return f"row_sum({', '.join(columns)})"


def _columns(db: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """List a table's columns without the sum, and those of its key; none where it has no sum."""
    found = db.execute(f"PRAGMA main.table_info({table})").fetchall()
    names = [name for _, name, *_ in found]
    key = [name for _, name, _, _, _, place in found if place]
    return ([n for n in names if n != _COLUMN] if _COLUMN in names else []), key
