"""A ledger that is damaged, lost or old: set aside, and one that can be used put in its place.

Nothing is ever deleted here. What takes the place of a lost ledger is marked, so that nothing new
is accepted before the backend's records have told what is missing in it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from agent_core.contracts.errors import LedgerFailed
from agent_core.failpoints import Effect
from agent_core.ledger import schema, tables
from agent_core.ledger.backups import Backup, Backups, copy
from agent_core.ledger.durable import put_in_place, sync
from agent_core.ledger.examination import Condition, Examination, examine

log = structlog.get_logger(__name__)

KEEPING: Final = Effect("ledger-keep", "a directory for a damaged ledger is made")
MOVING: Final = Effect("ledger-set-aside", "a file of a damaged ledger is set aside")
PLACING: Final = Effect("ledger-place", "a new or recovered ledger takes its place")
COPYING: Final = Effect("ledger-copy-older", "a copy of a ledger is kept before its upgrade")

_UNFINISHED: Final = "unfinished"
"""A file in the directory of what is kept; why it is kept. It is there until that is complete."""
_WHY: Final = "why.txt"


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a ledger was lost and what took its place.

    Attributes:
        at: When.
        why: What was wrong with it, in words.
        source: itself, backup or nothing: what the present ledger began from.
        backup: The backup that was used; empty when none was.
        kept: The directory where the damaged files are; empty when there were none.
    """

    at: float
    why: str
    source: str
    backup: str = ""
    kept: str = ""

    def to_data(self) -> dict[str, Any]:
        """Render as plain JSON data."""
        return asdict(self)

    @property
    def told(self) -> str:
        """What an operator should know of it, in one sentence."""
        base = {"itself": "what was left of it", "backup": f"the backup {self.backup}"}
        began = base.get(self.source, "an empty one")
        kept = f"; what was there is kept in {self.kept}" if self.kept else ""
        return f"the ledger was lost ({self.why}), and began again from {began}{kept}"

    @classmethod
    def from_text(cls, text: str | None) -> Recovery | None:
        """Read what `to_data` rendered as JSON; None where there is nothing that can be read."""
        try:
            return cls(**json.loads(text)) if text else None
        except (ValueError, TypeError):
            return None


def make_ready(path: Path, backups: Backups) -> None:
    """Leave a sound ledger of the present version at `path`, whatever is there.

    Raises:
        LedgerFailed: when a newer agent wrote it, or files cannot be read or written; whatever is
            there is still there.
    """
    try:
        _make_ready(path, backups)
    except (OSError, sqlite3.Error) as exc:
        raise LedgerFailed(f"cannot make the ledger {path} ready: {exc}") from exc


def _make_ready(path: Path, backups: Backups) -> None:
    found = examine(path)
    begun = _unfinished(path)
    if found.condition is Condition.NEWER:
        raise LedgerFailed(
            f"the ledger {path} has version {found.version}, this agent knows {schema.VERSION}",
            hint="Install the newer agent again; a ledger is never downgraded.",
        )
    if found.condition is Condition.MISSING:
        _replace_missing(path, backups, begun)
    elif found.condition is Condition.DAMAGED:
        _replace_damaged(path, backups, found, begun)
    elif found.condition is Condition.INCOMPLETE:
        _mend(path, found, begun)
    elif found.condition is Condition.OLDER:
        _upgrade(path, found.version)
    if begun is not None:
        _finish(begun)


# ---- what is damaged ---------------------------------------------------------------------------


def _replace_damaged(path: Path, backups: Backups, found: Examination, begun: Path | None) -> None:
    log.error("the ledger is damaged", path=str(path), why=found.why)
    kept = _keep(path, found.why, begun)
    _set_aside(_files(path), kept)
    _put_another(path, backups, found.why, kept)


def _replace_missing(path: Path, backups: Backups, begun: Path | None) -> None:
    """Go on with a recovery that was cut short, or begin with a ledger that is not there."""
    orphans = [*_files(path)]
    last = next(iter(backups.list()), None)
    if begun is None and not orphans and last is None:
        _put(path, None, None)
        return
    why = (begun / _UNFINISHED).read_text() if begun else "there was no ledger"
    kept = _keep(path, why, begun) if begun or orphans else None
    if kept is not None:  # the log of another database must never be applied to this one
        _set_aside(orphans, kept)
    _put_another(path, backups, why, kept)


def _put_another(path: Path, backups: Backups, why: str, kept: Path | None) -> None:
    sync(path.parent)
    backup = next(backups.sound(), None)
    recovery = Recovery(
        at=time.time(),
        why=why,
        source="backup" if backup else "nothing",
        backup=str(backup.path) if backup else "",
        kept=str(kept or ""),
    )
    _put(path, backup, recovery)
    log.warning("another ledger took its place", **recovery.to_data())
    if kept is not None:
        _finish(kept)


def _put(path: Path, backup: Backup | None, recovery: Recovery | None) -> None:
    made = path.with_name(f"{path.name}.new")
    made.unlink(missing_ok=True)
    made.touch(mode=0o600)
    if backup is not None:
        shutil.copyfile(backup.path, made)
    told = recovery.to_data() if recovery else None
    tables.change(made, recovery=told, fresh=backup is None)
    with PLACING:
        put_in_place(made, path)


def _mend(path: Path, found: Examination, begun: Path | None) -> None:
    """Keep a copy of a ledger that lacks its tail, and go on with what is left of it."""
    log.error("the ledger lacks its tail", path=str(path), why=found.why)
    kept = begun or _keep(path, found.why, None)
    for file in _files(path):
        if not (kept / file.name).exists():
            _copy_aside(file, kept)
    recovery = Recovery(at=time.time(), why=found.why, source="itself", kept=str(kept))
    with PLACING, closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        tables.upgrade(db)
        tables.mark_recovered(db, recovery.to_data())
    log.warning("the ledger goes on without its tail", **recovery.to_data())
    _finish(kept)


def _copy_aside(file: Path, kept: Path) -> None:
    made = kept / f"{file.name}.copy"
    shutil.copyfile(file, made)
    with MOVING:
        put_in_place(made, kept / file.name)


def _set_aside(files: Iterable[Path], kept: Path) -> None:
    for file in [*files]:
        with MOVING:
            file.rename(kept / file.name)
    sync(kept)


# ---- where it is kept --------------------------------------------------------------------------


def _files(path: Path) -> Iterator[Path]:
    """Yield the database and what belongs to it, as far as they are there."""
    for end in ("", "-wal", "-shm"):
        file = Path(f"{path}{end}")
        if file.exists():
            yield file


def _keep(path: Path, why: str, begun: Path | None) -> Path:
    """Choose the directory for the damaged files: the one that a crash left unfinished, or new."""
    if begun is not None and not (path.exists() and (begun / path.name).exists()):
        return begun
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    kept = _unused(path.parent / f"damaged-{stamp}")
    with KEEPING:
        kept.mkdir(mode=0o700)
        (kept / _UNFINISHED).write_text(why)
        sync(kept / _UNFINISHED)
        sync(kept)
        sync(path.parent)
    return kept


def _unused(path: Path) -> Path:
    """Choose a name that nothing has: what was kept before stays as it is."""
    chosen, number = path, 1
    while chosen.exists():
        number += 1
        chosen = path.with_name(f"{path.name}.{number}")
    return chosen


def _unfinished(path: Path) -> Path | None:
    found = sorted(path.parent.glob(f"damaged-*/{_UNFINISHED}"))
    return found[-1].parent if found else None


def _finish(kept: Path) -> None:
    marker = kept / _UNFINISHED
    if marker.exists():
        marker.rename(kept / _WHY)
        sync(kept)


# ---- what is old -------------------------------------------------------------------------------


def _upgrade(path: Path, version: int) -> None:
    """Keep a copy of an older ledger, and turn it into one of the present version."""
    kept = _unused(path.with_name(f"{path.name}.v{version}"))
    made = path.with_name(f"{path.name}.copy")
    made.unlink(missing_ok=True)
    made.touch(mode=0o600)
    copy(path, made)
    with COPYING:
        put_in_place(made, kept)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        tables.upgrade(db)
    log.info("the ledger was upgraded", old=version, new=schema.VERSION, copy=str(kept))
