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
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from agent_core import failpoints
from agent_core.clock import boot_id
from agent_core.contracts.errors import LedgerFailed
from agent_core.ledger import sums, tables
from agent_core.ledger.backups import Backups
from agent_core.ledger.recovery import Recovery, make_ready
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


UNREAD: Final = "the backend's records were not read yet"
"""Why a ledger is reconciling before anybody has tried."""

PROBED: Final = Commit("ledger-probed", "the ledger is written again after it could not be")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why nothing can be written now, and since when."""

    why: str
    since: float


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

    Attributes:
        path: The database.
        backups: Its copies.
        epoch: What the ids of new events begin with.
        boot_changed: Whether the node was booted since it was written last.
        commits: Commits since it was opened.
        reconciling: Why rows may be missing that the backend's records have; empty when none is.
        recovery: How it was lost the last time; None when it never was.
        fault: Why nothing can be written now; None when the last write succeeded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backups = Backups(path)
        self._queue: queue.SimpleQueue[list[_Job[Any]] | None] = queue.SimpleQueue()
        self._asked: list[_Job[Any]] = []
        self._thread: threading.Thread | None = None
        self._db: sqlite3.Connection | None = None
        self.epoch = ""
        self.boot_changed = False
        self.commits = 0
        self.reconciling = ""
        self.recovery: Recovery | None = None
        self.fault: Fault | None = None

    # ---- lifetime ----

    def open(self) -> None:
        """Open the database, or what must take its place, and go on with its ids of events."""
        make_ready(self.path, self.backups)
        try:
            # Held from here on, so that whatever fails it is closed again.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._prepare(self._db)
            self._begin_epoch(self._db)
        except sqlite3.Error as exc:
            self.close()
            raise LedgerFailed(f"cannot open the ledger {self.path}: {exc}") from exc
        self._thread = threading.Thread(
            target=self._run, args=(self._db,), name="ledger", daemon=True
        )
        self._thread.start()

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        sums.teach(db)

    def _begin_epoch(self, db: sqlite3.Connection) -> None:
        """A new epoch at each boot and recovery, so that an id never repeats."""
        known = dict(db.execute("SELECT key, value FROM meta").fetchall())
        boot = boot_id()
        self.boot_changed = known.get("boot_id", boot) != boot
        if known.get("boot_id") != boot or not known.get("epoch"):
            fresh = {"boot_id": boot, "epoch": f"{time.time_ns() // 1_000_000:x}"}
            tables.put(db, fresh)
            known |= fresh
        self.epoch = known["epoch"]
        self.reconciling = UNREAD if tables.RECONCILING in known else ""
        self.recovery = Recovery.from_text(known.get(tables.RECOVERY))

    def close(self) -> None:
        """Finish what was asked for, and close; does nothing when it is not open."""
        if self._thread is not None:
            self._hand_over()
            self._queue.put(None)
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

    async def probe(self) -> None:
        """Write again, where the last write failed, so that `fault` is gone once that succeeds."""
        if self.fault is not None:
            with contextlib.suppress(LedgerFailed):
                await self.write(PROBED, lambda tx: tx.probe(time.time()))

    async def _submit(self, work: Callable[[Transaction], T], commit: Commit | None) -> T:
        if self._thread is None:
            raise LedgerFailed(f"the ledger {self.path} is not open")
        loop = asyncio.get_running_loop()
        job: _Job[T] = _Job(work, loop.create_future(), commit)
        # What is asked for in one turn of the loop goes over together: each waking of the other
        # thread costs more than a transaction.
        if not self._asked or self._asked[0].future.get_loop() is not loop:
            loop.call_soon(self._hand_over)
        self._asked.append(job)
        return await job.future

    def _hand_over(self) -> None:
        if self._asked:
            jobs, self._asked = self._asked, []
            self._queue.put(jobs)

    # ---- the ledger's own thread ----

    def _run(self, db: sqlite3.Connection) -> None:
        closing = False
        while not closing and (jobs := self._queue.get()) is not None:
            while len(jobs) < _GROUP and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    closing = True
                    break
                jobs += more
            for start in range(0, len(jobs), _GROUP):
                self._run_group(db, jobs[start : start + _GROUP])

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
            self._read_again(db, [job for job in jobs if job.commit is None])
        for loop, of_loop in groupby(jobs, lambda job: job.future.get_loop()):
            with contextlib.suppress(
                RuntimeError
            ):  # the callers' loop is gone, and so is their wait
                loop.call_soon_threadsafe(_settle, [*of_loop])

    def _read_again(self, db: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
        """Run the reads of a group whose commit failed by themselves: they do not fail by it."""
        if not jobs:
            return
        try:
            db.execute("BEGIN")
            for job in jobs:
                job.error = None
                self._run_job(db, Transaction(db, self.epoch), job)
            db.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - each caller is told
            self._fail(db, jobs, exc)

    def _run_job(self, db: sqlite3.Connection, tx: Transaction, job: _Job[Any]) -> None:
        db.execute("SAVEPOINT job")
        try:
            job.result = job.work(tx)
        except Exception as exc:  # noqa: BLE001 - a caller's fault is the caller's, not the group's
            db.execute("ROLLBACK TO job")
            job.error = self._failed(exc) if isinstance(exc, sqlite3.Error) else exc
        db.execute("RELEASE job")

    def _commit(self, db: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
        done = [job.commit for job in jobs if job.commit is not None and job.error is None]
        for commit in done:
            failpoints.hit(commit.before)
        db.execute("COMMIT")
        if done:
            self.commits += 1
            self.fault = None
        for commit in done:
            failpoints.hit(commit.after)

    def _fail(self, db: sqlite3.Connection, jobs: list[_Job[Any]], exc: Exception) -> None:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        if any(job.commit for job in jobs):
            self.fault = self.fault or Fault(str(exc), time.time())
        for job in jobs:
            job.error = self._failed(exc)

    def _failed(self, exc: Exception) -> LedgerFailed:
        error = LedgerFailed(f"cannot write the ledger {self.path}: {exc}")
        error.__cause__ = exc
        return error


def _settle(jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        if job.future.done():  # whoever waited was cancelled
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
