"""A sum in each row, so that a changed bit is noticed where SQLite itself has no check.

Whoever writes a row writes its sum with it; a row that was written otherwise counts as damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final
from zlib import crc32

TABLES: Final = ("meta", "kernels", "holds", "outbox")
FUNCTION: Final = "row_sum"
"""The name of `sum_of` in SQL, for connections that `teach` has seen."""
_COLUMN: Final = "sum"
_NOTHING: Final = "\1"


def sum_of(*values: object) -> int:
    """Compute the sum of a row from its values in the order of the table's columns.

    It is the same before a value is written and after it is read: SQLite has neither booleans nor
    enumerations, and makes whole numbers real where the column is.
    """
    return crc32("\0".join([_text(value) for value in values]).encode())


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return _NOTHING if value is None else str(float(value))  # type: ignore[arg-type]


def teach(db: sqlite3.Connection) -> None:
    """Let statements of a connection compute sums."""
    db.create_function(FUNCTION, -1, sum_of, deterministic=True)


def write_all(db: sqlite3.Connection) -> None:
    """Write the sum of every row anew, as it stands there now."""
    teach(db)
    for table in TABLES:
        db.execute(f"UPDATE {table} SET {_COLUMN} = {_expression(db, table)}")  # noqa: S608 - names are ours


def wrong(db: sqlite3.Connection) -> Iterator[str]:
    """Name the tables that have rows with a wrong sum."""
    teach(db)
    for table in TABLES:
        differs = f"{_COLUMN} IS NOT {_expression(db, table)}"
        (found,) = db.execute(f"SELECT count(*) FROM {table} WHERE {differs}").fetchone()  # noqa: S608 - names are ours
        if found:
            yield f"{found} rows of {table} are not as they were written"


def _expression(db: sqlite3.Connection, table: str) -> str:
    names = [name for _, name, *_ in db.execute(f"PRAGMA main.table_info({table})")]
    return f"{FUNCTION}({', '.join(name for name in names if name != _COLUMN)})"
