"""The ledger itself: one thread, one connection, and many callers' transactions in one commit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from agent_core import failpoints
from agent_core.clock import boot_id
from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import schema
from agent_core.ledger.transaction import Transaction

T = TypeVar("T")

_GROUP = 256
"""The most transactions that share one commit; bounds how long the first of them waits."""


class Commit:
    """One kind of commit, with a failpoint on either side of it.

    Declare each as a constant of the module that makes it, so that a test can walk them all.
    """

    __slots__ = ("after", "before", "label")

    def __init__(self, label: str, meaning: str) -> None:
        self.label = label
        self.before, self.after = failpoints.declare_commit(label, meaning)


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    work: Callable[[Transaction], T]
    future: asyncio.Future[T]
    commit: Commit | None
    result: T | None = None
    error: BaseException | None = None


class Ledger:
    """Durable state of one agent.

    `open` before any other call and `close` at the end. Functions given to `write` and `read` run
    in the ledger's own thread: they must be short, touch nothing but their transaction, and return
    plain data. Writers that wait at the same time share one commit and its one fsync.

    Raises:
        LedgerFailed: from every method, when the database cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._db: sqlite3.Connection | None = None
        self.epoch = ""
        self.boot_changed = False
        self.commits = 0

    # ---- lifetime ----

    def open(self) -> None:
        """Open or create the database, check it, and begin a new epoch of event ids."""
        try:
            # Held from here on, so that a file that is no database is closed like any other.
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._prepare(self._db)
            self._check(self._db)
            self._begin_epoch(self._db)
        except sqlite3.Error as exc:
            self.close()
            raise LedgerFailed(f"cannot open the ledger {self._path}: {exc}") from exc
        except LedgerFailed:
            self.close()
            raise
        self._thread = threading.Thread(
            target=self._run, args=(self._db,), name="ledger", daemon=True
        )
        self._thread.start()

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")

    def _check(self, db: sqlite3.Connection) -> None:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            self._become(db, schema.VERSION, schema.TABLES)
        elif found > schema.VERSION:
            raise LedgerFailed(
                f"the ledger {self._path} has version {found}, this agent knows {schema.VERSION}",
                hint="Install the newer agent again; a ledger is never downgraded.",
            )
        for version in range(found or schema.VERSION, schema.VERSION):
            self._become(db, version + 1, schema.MIGRATIONS[version])
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise LedgerFailed(
                f"the ledger {self._path} is damaged: {problem}",
                hint="Keep the file for forensics and restore a backup.",
            )

    def _become(self, db: sqlite3.Connection, version: int, script: str) -> None:
        """Change the tables and the version in one transaction."""
        db.executescript(f"BEGIN; {script} PRAGMA user_version = {version}; COMMIT;")

    def _begin_epoch(self, db: sqlite3.Connection) -> None:
        """A new epoch at each boot, so that an id never repeats even if a tail was lost."""
        known = dict(db.execute("SELECT key, value FROM meta").fetchall())
        boot = boot_id()
        self.boot_changed = known.get("boot_id", boot) != boot
        if known.get("boot_id") != boot:
            known = {"boot_id": boot, "epoch": f"{time.time_ns() // 1_000_000:x}"}
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(known.items()))
        self.epoch = known["epoch"]

    def close(self) -> None:
        """Finish what was asked for, and close; does nothing when it is not open."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self._db is not None:
            self._db.close()
            self._db = None

    # ---- transactions ----

    async def write(self, commit: Commit, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and return its result once it is durable.

        Cancelling the wait does not undo the transaction. When `work` raises, only its own changes
        are undone, and its error is raised here.
        """
        return await self._submit(work, commit)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which changes nothing, and return its result."""
        return await self._submit(work, None)

    async def _submit(self, work: Callable[[Transaction], T], commit: Commit | None) -> T:
        if self._thread is None:
            raise LedgerFailed(f"the ledger {self._path} is not open")
        job = _Job(work, asyncio.get_running_loop().create_future(), commit)
        self._jobs.put(job)
        return await asyncio.shield(job.future)

    # ---- the ledger's own thread ----

    def _run(self, db: sqlite3.Connection) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = [first]
            closing = False
            while len(jobs) < _GROUP and not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    closing = True
                    break
                jobs.append(job)
            self._run_group(db, jobs)
            if closing:
                return

    def _run_group(self, db: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
        tx = Transaction(db, self.epoch)
        try:
            # Reading must go on where nothing can be written any more.
            db.execute("BEGIN IMMEDIATE" if any(job.commit for job in jobs) else "BEGIN")
            for job in jobs:
                self._run_job(db, tx, job)
            self._commit(db, jobs)
        except Exception as exc:  # noqa: BLE001 - each caller is told; without this thread all would wait for ever
            self._fail(db, jobs, exc)
        for job in jobs:
            with contextlib.suppress(RuntimeError):  # the caller's loop is gone, and so is its wait
                job.future.get_loop().call_soon_threadsafe(_settle, job)

    def _run_job(self, db: sqlite3.Connection, tx: Transaction, job: _Job[Any]) -> None:
        db.execute("SAVEPOINT job")
        try:
            job.result = job.work(tx)
        except Exception as exc:  # noqa: BLE001 - a caller's fault is the caller's, not the group's
            job.error = exc
            db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")

    def _commit(self, db: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
        done = [job.commit for job in jobs if job.commit is not None and job.error is None]
        for commit in done:
            failpoints.hit(commit.before)
        db.execute("COMMIT")
        self.commits += bool(done)
        for commit in done:
            failpoints.hit(commit.after)

    def _fail(self, db: sqlite3.Connection, jobs: list[_Job[Any]], exc: Exception) -> None:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        for job in jobs:
            job.error = LedgerFailed(f"cannot write the ledger {self._path}: {exc}")
            job.error.__cause__ = exc


def _settle(job: _Job[Any]) -> None:
    if job.future.done():
        return
    if job.error is not None:
        job.future.set_exception(job.error)
    else:
        job.future.set_result(job.result)
