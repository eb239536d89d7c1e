"""The ledger's tables, their version, and the way from each older version to the next."""

from collections.abc import Mapping
from typing import Final

VERSION: Final = 3

_HOLDS_2: Final = """
CREATE TABLE holds (
    kind        TEXT NOT NULL,
    key         TEXT NOT NULL,
    kernel_id   TEXT NOT NULL REFERENCES kernels,
    incarnation INTEGER NOT NULL,
    state       TEXT NOT NULL,
    undo        TEXT NOT NULL,
    ordinal     INTEGER NOT NULL,
    note        TEXT NOT NULL,
    shared      INTEGER NOT NULL,
    PRIMARY KEY (kind, key, kernel_id)
) WITHOUT ROWID;
CREATE INDEX holds_by_kernel ON holds (kernel_id);
CREATE UNIQUE INDEX holds_of_one ON holds (kind, key) WHERE shared = 0;
"""

_ADD_SUMS: Final = """
ALTER TABLE meta    ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE kernels ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE holds   ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox  ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
"""

TABLES: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE kernels (
    kernel_id   TEXT PRIMARY KEY,
    session_id  TEXT NOT NULL,
    state       TEXT NOT NULL,
    spec        TEXT NOT NULL,
    spec_digest TEXT NOT NULL,
    created_at  REAL NOT NULL,
    incarnation INTEGER NOT NULL,
    reason      TEXT,
    message     TEXT,
    exit_code   INTEGER,
    started_at  REAL,
    ended_at    REAL,
    container   TEXT,
    warnings    TEXT NOT NULL,
    timings     TEXT NOT NULL,
    version     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX kernels_by_end ON kernels (ended_at);

{_HOLDS_2}
CREATE TABLE outbox (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch      TEXT NOT NULL,
    name       TEXT NOT NULL,
    at         REAL NOT NULL,
    kernel_id  TEXT,
    session_id TEXT,
    data       TEXT NOT NULL
);
CREATE INDEX outbox_by_kernel ON outbox (kernel_id);
{_ADD_SUMS}"""

_MOVE_HOLDS: Final = """
INSERT INTO holds SELECT kind, key, kernel_id, incarnation, state, undo, ordinal, note, 0
    FROM holds_1;
DROP TABLE holds_1;
"""

MIGRATIONS: Final[Mapping[int, str]] = {
    1: "ALTER TABLE holds RENAME TO holds_1; DROP INDEX holds_by_kernel;" + _HOLDS_2 + _MOVE_HOLDS,
    2: _ADD_SUMS,
}
"""By version, what turns it into the next one."""
