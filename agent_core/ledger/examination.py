"""How a ledger's file is: sound, older, newer, damaged, or lacking its tail; changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import schema, sums
from agent_core.ledger.tail import unread_tail

_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
_FORMATS: Final = {1, 2}
"""How a database is written and read: by a rollback journal, or by a write-ahead log."""
_SHOWN: Final = 10
"""Problems that are named; a damaged file has any number."""

_NO_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_AUTH,
    }
)
"""Errors that say something of the disk, the rights or other processes, and nothing of the file."""


class Condition(StrEnum):
    """What became of a ledger's file."""

    MISSING = "missing"
    SOUND = "sound"
    OLDER = "older"
    """Sound, and written by an older version."""
    NEWER = "newer"
    """Written by a version that this one does not know."""
    DAMAGED = "damaged"
    INCOMPLETE = "incomplete"
    """Sound, but its write-ahead log has an end that cannot be read."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, and what is wrong in words."""

    condition: Condition
    version: int = 0
    problems: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The problems in one line."""
        return "; ".join(self.problems)


class _DamagedError(Exception):
    """Raised when the file is no sound ledger; the arguments are its problems."""


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open a database so that nothing in it can be changed."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def is_damage(error: Exception) -> bool:
    """Whether an error says that the file is wrong, and not that it could not be reached."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF not in _NO_DAMAGE


def examine(path: Path, *, in_use: bool = False) -> Examination:
    """Look at a ledger's file as a whole.

    Args:
        path: The database; its write-ahead log lies beside it.
        in_use: Whether an agent writes it now; then its log has no end that could be judged.

    Raises:
        LedgerFailed: when the file cannot be read at all, which says nothing of its content.
    """
    try:
        if not path.exists():
            return Examination(Condition.MISSING)
        _look_at_header(path)
        with closing(connect_for_reading(path)) as db:
            return _look_inside(db, path, in_use=in_use)
    except _DamagedError as exc:
        return Examination(Condition.DAMAGED, problems=exc.args)
    except (sqlite3.Error, UnicodeError) as exc:
        if is_damage(exc):
            return Examination(Condition.DAMAGED, problems=(str(exc),))
        raise LedgerFailed(f"cannot read the ledger {path}: {exc}") from exc
    except OSError as exc:
        raise LedgerFailed(f"cannot read the ledger {path}: {exc.strerror}") from exc


def _look_at_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if not header:
        raise _DamagedError("the file is empty")
    if header[: len(_MAGIC)] != _MAGIC or len(header) < _HEADER:
        raise _DamagedError("the file is not an SQLite database")
    if not {header[18], header[19]} <= _FORMATS:
        raise _DamagedError("the file's header is damaged")


def _look_inside(db: sqlite3.Connection, path: Path, *, in_use: bool) -> Examination:
    db.execute("BEGIN")
    version = _version(db)
    if version > schema.VERSION:
        return Examination(Condition.NEWER, version)
    problems = [*_problems(db, version)]
    if problems:
        raise _DamagedError(*problems[:_SHOWN])
    if not in_use and (lost := unread_tail(path)):
        return Examination(Condition.INCOMPLETE, version, (lost,))
    condition = Condition.SOUND if version == schema.VERSION else Condition.OLDER
    return Examination(condition, version)


def _version(db: sqlite3.Connection) -> int:
    """Read the version, which stands in the file twice since version 2."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    told = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone() if known else None
    if version <= 0 or (version <= schema.VERSION and not known):
        raise _DamagedError("there is no ledger in this database")
    if told is not None and told[0] != str(version):
        raise _DamagedError(f"its version is {version} in one place and {told[0]} in another")
    return version


def _problems(db: sqlite3.Connection, version: int) -> Iterator[str]:
    for (said,) in db.execute(f"PRAGMA integrity_check({_SHOWN})"):
        if said != "ok":
            yield str(said)
    for table, _, parent, _ in db.execute("PRAGMA foreign_key_check"):
        yield f"a row of {table} has no row of {parent}"
    if version == schema.VERSION:
        misshapen = [*_misshapen(db)]
        yield from misshapen or sums.wrong(db)


def _misshapen(db: sqlite3.Connection) -> Iterator[str]:
    """Compare the tables with those that this version makes."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(schema.TABLES)
        expected, found = _shape(model), _shape(db)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            yield f"{name} is not as it was made"


def _shape(db: sqlite3.Connection) -> dict[str, object]:
    names = db.execute("SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {
        f"{kind} {name}": db.execute(f"PRAGMA {kind}_xinfo({name!r})").fetchall()
        for name, kind in names.fetchall()
    }
