"""Making the tables of a ledger, and turning those of an older version into the present ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent_core.ledger import schema, sums

RECOVERY: Final = "recovery"
"""The key of what is known of the last recovery."""
RECONCILING: Final = "reconciling"
"""The key that is there until the backend's records were read after a recovery."""
_EPOCH: Final = "epoch"


_VERSION: Final = "version"
_PUT: Final = "INSERT OR REPLACE INTO meta (key, value, sum) VALUES (?, ?, ?)"


def make(db: sqlite3.Connection) -> None:
    """Make the tables of the present version in an empty database."""
    _become(db, schema.VERSION, schema.TABLES)


def upgrade(db: sqlite3.Connection) -> None:
    """Turn the tables of an older version into those of the present one, in one transaction."""
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    steps = [schema.MIGRATIONS[version] for version in range(found, schema.VERSION)]
    if steps:
        _become(db, schema.VERSION, "".join(steps))


def _become(db: sqlite3.Connection, version: int, script: str) -> None:
    """Change the tables, the sums of all rows and the version in one transaction."""
    db.executescript(f"BEGIN; {script} PRAGMA user_version = {version};")
    put(db, {_VERSION: str(version)})
    sums.write_all(db)
    db.execute("COMMIT")


def mark_recovered(db: sqlite3.Connection, recovery: dict[str, Any] | None) -> None:
    """Note that rows may be missing, and that ids of events must be of a new epoch.

    Args:
        db: The ledger that takes the place of a lost one.
        recovery: What happened; None for a first start, when nothing may have been lost.
    """
    known = {} if recovery is None else {RECOVERY: json.dumps(recovery)}
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM meta WHERE key IN (?, ?)", [RECOVERY, _EPOCH])
    put(db, {RECONCILING: "1", **known})
    db.execute("COMMIT")


def put(db: sqlite3.Connection, values: Mapping[str, str]) -> None:
    """Write what is known of the ledger itself."""
    rows = [(key, value, sums.sum_of(key, value)) for key, value in values.items()]
    db.executemany(_PUT, rows)


def change(path: Path, *, recovery: dict[str, Any] | None, fresh: bool) -> None:
    """Make or upgrade the tables in a file that nobody else has open, and mark it as recovered."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        (make if fresh else upgrade)(db)
        mark_recovered(db, recovery)
