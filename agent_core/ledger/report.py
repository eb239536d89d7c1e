"""What is in a ledger and how it is, for people; nothing is changed by looking."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from agent_core.contracts.errors import InvalidArgument, LedgerFailed, NotFound
from agent_core.ledger import schema, tables
from agent_core.ledger.backups import Backup, Backups
from agent_core.ledger.examination import (
    Condition,
    Examination,
    connect_for_reading,
    examine,
)
from agent_core.ledger.keeping import BackupKeeper
from agent_core.ledger.lock import holder_of
from agent_core.ledger.recovery import Recovery
from agent_core.ledger.rows import HoldRow
from agent_core.ledger.store import UNREAD, Ledger
from agent_core.ledger.transaction import Transaction
from agent_core.wire import ledger as wire
from agent_core.wire import models

_REMEMBERED: Final = 86400.0
"""Seconds for which the status tells that the ledger was lost."""
_SHOWN: Final = 1000
"""Holds that are listed; a node has more only when something is very wrong."""

_NEXT: Final = {
    Condition.SOUND: "The next start opens it as it is.",
    Condition.OLDER: "The next start keeps a copy beside it and upgrades it.",
    Condition.NEWER: "The next start is refused: install the newer agent again.",
    Condition.INCOMPLETE: (
        "The next start keeps a copy of it, goes on with what can be read, and asks the backend "
        "what is missing."
    ),
}


class Contents(NamedTuple):
    """What is in a ledger, read in one transaction."""

    meta: dict[str, str]
    kernels: dict[str, int]
    counts: dict[str, int]
    holds: list[tuple[HoldRow, float]]


def contents(tx: Transaction) -> Contents:
    """Read what is in a ledger; costs the same however many kernels have ended."""
    return Contents(tx.meta(), tx.kernel_counts(), tx.counts(), tx.holds_since(_SHOWN))


def view(found: Contents, path: Path, backups: Backups) -> wire.LedgerView:
    """Say what is in a ledger, with what the file system has of it; it blocks."""
    last = next(iter(backups.list()), None)
    recovery = Recovery.from_text(found.meta.get(tables.RECOVERY))
    return wire.LedgerView(
        path=str(path),
        version=schema.VERSION,
        epoch=found.meta.get("epoch", ""),
        size=sum(file.stat().st_size for file in _files(path)),
        kernels=found.kernels,
        holds=[_hold(hold, since) for hold, since in found.holds],
        holds_total=found.counts["holds"],
        outbox=found.counts["outbox"],
        last_backup=None if last is None else row_of(last),
        recovery=None if recovery is None else wire.RecoveryRow(**recovery.to_data()),
        reconciling=UNREAD if tables.RECONCILING in found.meta else "",
    )


def _hold(hold: HoldRow, since: float) -> wire.LedgerHold:
    return wire.LedgerHold(
        kind=hold.kind,
        key=hold.key,
        kernel_id=hold.kernel_id,
        state=hold.state,
        shared=hold.shared,
        since=since,
        note=hold.note,
    )


def row_of(backup: Backup, *, sound: bool | None = None) -> wire.BackupRow:
    """Show one backup."""
    return wire.BackupRow(path=str(backup.path), size=backup.size, at=backup.at, sound=sound)


def conditions_of(ledger: Ledger, backups: BackupKeeper) -> list[models.Condition]:
    """Say what is wrong with a ledger in use; empty when nothing is."""
    found = []
    if (fault := ledger.fault) is not None:
        message = f"nothing can be written to {ledger.path.parent}: {fault.why}"
        found.append(_condition("state_not_writable", message, fault.since))
    if ledger.reconciling:
        message = f"no kernel is created or ended until it is known what runs: {ledger.reconciling}"
        found.append(_condition("ledger_reconciling", message))
    recovery = ledger.recovery
    if recovery is not None and time.time() - recovery.at < _REMEMBERED:
        found.append(_condition("ledger_recovered", recovery.told, recovery.at))
    if backups.fault:
        found.append(_condition("ledger_not_backed_up", backups.fault))
    return found


def _condition(code: str, message: str, since: float | None = None) -> models.Condition:
    return models.Condition(code=code, message=message, since=since)


def view_file(path: Path) -> wire.LedgerView:
    """Say what is in the ledger of an agent that does not answer.

    Raises:
        NotFound: when there is none.
        LedgerFailed: when it is not one that this version can read as it is.
    """
    with _undisturbed(path) as (file, _):
        found = examine(file)
        if found.condition not in (Condition.SOUND, Condition.INCOMPLETE):
            raise LedgerFailed(
                f"the ledger {path} is {found.condition}: {found.why or found.version}",
                hint="`agentctl ledger check` says more.",
            )
        with closing(connect_for_reading(file)) as db:
            shown = view(contents(Transaction(db, "")), file, Backups(path))
    return shown.model_copy(update={"path": str(path)})


def check_file(path: Path) -> wire.LedgerCheck:
    """Look at a ledger and its backups, whether an agent uses it or not.

    Raises:
        NotFound: when there is neither a ledger nor a backup of one.
        InvalidArgument: when the path is not one of a file.
        LedgerFailed: when the file cannot be read at all.
    """
    backups = Backups(path)
    if not path.exists() and backups.list():
        return _checked(path, Examination(Condition.MISSING), {}, backups, None)
    with _undisturbed(path) as (file, user):
        found = examine(file, in_use=user is not None)
        counts = _counts(file) if found.condition in _COUNTABLE else {}
    return _checked(path, found, counts, backups, user)


_COUNTABLE: Final = {Condition.SOUND, Condition.OLDER, Condition.INCOMPLETE}


def _checked(
    path: Path, found: Examination, counts: dict[str, int], backups: Backups, user: int | None
) -> wire.LedgerCheck:
    rows = [row_of(b, sound=_is_sound(b)) for b in backups.list()]
    return wire.LedgerCheck(
        path=str(path),
        ok=found.condition in (Condition.SOUND, Condition.OLDER),
        condition=found.condition,
        version=found.version,
        known_version=schema.VERSION,
        problems=list(found.problems),
        rows=counts,
        backups=rows,
        used_by=user,
        next_start=_next_start(found.condition, rows),
    )


def _is_sound(backup: Backup) -> bool:
    return examine(backup.path).condition in (Condition.SOUND, Condition.OLDER)


def _next_start(condition: Condition, backups: list[wire.BackupRow]) -> str:
    if condition in _NEXT:
        return _NEXT[condition]
    base = next((f"the backup {row.path}" for row in backups if row.sound), "an empty ledger")
    aside = "" if condition is Condition.MISSING else "sets it aside, "
    return f"The next start {aside}goes on with {base}, and asks the backend what is missing."


def _counts(path: Path) -> dict[str, int]:
    with closing(connect_for_reading(path)) as db:
        return Transaction(db, "").counts()


def _files(path: Path) -> Iterator[Path]:
    return (file for end in ("", "-wal") if (file := Path(f"{path}{end}")).exists())


@contextmanager
def _undisturbed(path: Path) -> Iterator[tuple[Path, int | None]]:
    """Give a path at which a ledger can be read without a trace, and the pid of who uses it.

    Reading a database with a log that nobody uses would replay the log: that is done in a copy.
    """
    if not path.exists():
        raise NotFound(f"there is no ledger {path}", hint="An agent makes it at its first start.")
    if not path.is_file():
        raise InvalidArgument(f"{path} is not a file", hint="Name the ledger.db of an agent.")
    user = holder_of(path.parent)
    if user is not None:
        yield path, user
        return
    with tempfile.TemporaryDirectory(prefix="agent-ledger-") as scratch:
        copied = Path(scratch) / path.name
        try:
            for file in _files(path):
                shutil.copyfile(file, copied.with_name(file.name))
        except OSError as exc:
            raise LedgerFailed(f"cannot read the ledger {path}: {exc.strerror}") from exc
        yield copied, None
