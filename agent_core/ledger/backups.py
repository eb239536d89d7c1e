"""Copies of the ledger, made while it is in use and kept beside it, for the day it is damaged."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import Conflict, LedgerFailed
from agent_core.failpoints import Effect
from agent_core.ledger.durable import put_in_place
from agent_core.ledger.examination import Condition, connect_for_reading, examine

MAKING: Final = Effect("ledger-backup", "a backup of the ledger is whole, and gets its name")

KEPT: Final = 2
_NAME: Final = re.compile(r"ledger-\d{8}T\d{9}\.db")
_MAKING: Final = ".making"
_SLICE: Final = 256
"""Pages that are copied at once; others may use the interpreter in between."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One copy of the ledger: where it is, how large, and since when."""

    path: Path
    size: int
    at: float


class Backups:
    """The backups of one ledger, in a directory beside it; the last two are kept.

    Every method blocks: the agent calls them in a thread.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.directory = ledger.parent / "backups"

    def list(self) -> list[Backup]:
        """List the backups, the newest first; whether they are sound is not known."""
        if not self.directory.is_dir():
            return []
        paths = [path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)]
        return [_backup(path) for path in sorted(paths, reverse=True)]

    def sound(self) -> Iterator[Backup]:
        """Yield the backups that pass their check, the newest first."""
        for backup in self.list():
            if examine(backup.path).condition in (Condition.SOUND, Condition.OLDER):
                yield backup

    def make(self, to: Path | None = None) -> Backup:
        """Copy the ledger as it is now; writers are not held up meanwhile.

        Args:
            to: A path of the caller's choice; by default one of the two that are kept.

        Raises:
            Conflict: when there is something at that path.
            LedgerFailed: when the copy cannot be written, or is not sound; none is replaced.
        """
        path = to or self._next()
        if os.path.lexists(path):
            raise Conflict(
                f"{path} exists, and a backup replaces nothing", hint="Choose another path."
            )
        made = path.with_name(f".{path.name}{_MAKING}")
        try:
            if to is None:
                self.directory.mkdir(mode=0o700, exist_ok=True)
            self._make(made, path)
        except (OSError, sqlite3.Error) as exc:
            raise LedgerFailed(f"cannot write the backup {path}: {exc}") from exc
        finally:
            with suppress(OSError):
                made.unlink(missing_ok=True)
        if to is None:
            self._thin_out()
        return _backup(path)

    def _next(self) -> Path:
        at = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at))
        return self.directory / f"ledger-{stamp}{int(at * 1000) % 1000:03}.db"

    def _make(self, made: Path, path: Path) -> None:
        made.unlink(missing_ok=True)
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        copy(self._ledger, made)
        found = examine(made)
        if found.condition is not Condition.SOUND:
            raise LedgerFailed(f"the ledger or its copy is {found.condition}: {found.why}")
        with MAKING:
            put_in_place(made, path)

    def _thin_out(self) -> None:
        """Remove what is too much, and what a crash left half made; one is made at a time."""
        half = [path for path in self.directory.iterdir() if path.name.endswith(_MAKING)]
        for path in [*(backup.path for backup in self.list()[KEPT:]), *half]:
            path.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copy a database with what is in its log, as of one moment, into one file without a log."""
    with closing(connect_for_reading(source)) as old, closing(sqlite3.connect(target)) as new:
        old.execute("BEGIN")
        old.execute("SELECT 1 FROM sqlite_master").fetchall()  # from here on nothing changes for us
        old.backup(new, pages=_SLICE)
        new.execute("PRAGMA journal_mode = DELETE")


def _backup(path: Path) -> Backup:
    known = path.stat()
    return Backup(path, known.st_size, known.st_mtime)
