"""A ledger with rows in it, and what was in it before something happened to it."""

import asyncio
import contextlib

import pytest

from agent_core.ledger import Commit, HoldRow, HoldState, KernelRow, Ledger

PUT = Commit("test-populate", "rows of a test")


def kernel(name, **changes):
    values = {
        "kernel_id": name,
        "session_id": "s",
        "state": "RUNNING",
        "spec": {"image": "python", "slots": {"cpu": "1"}},
        "spec_digest": "d",
        "created_at": 1.0,
        "container": f"t.{name}.1.main.0",
    }
    return KernelRow(**{**values, **changes})


class Book:
    """One ledger's file, opened and closed as often as a test likes."""

    def __init__(self, path):
        self.path = path
        self.directory = path.parent

    def use(self, work):
        """Open the ledger, await `work` with it, and close it; returns both."""
        ledger = Ledger(self.path)
        ledger.open()
        try:
            return ledger, asyncio.run(work(ledger))
        finally:
            ledger.close()

    def fill(self, *names, settle=True):
        """Write kernels with a hold and an event each; by default nothing is waited for then."""

        def put(tx):
            for name in names:
                tx.put_kernel(kernel(name))
                held = {"path": f"/scratches/{name}"}
                tx.put_holds([HoldRow("scratch", name, name, state=HoldState.HELD, undo=held)])
                tx.add_event("kernel.running", 2.0, kernel_id=name, session_id="s")
            if settle:
                tx.reconciled(None)

        return self.use(lambda ledger: ledger.write(PUT, put))[0]

    def open(self):
        """Open and close it; returns the ledger as it was open."""
        return self.use(lambda ledger: asyncio.sleep(0))[0]

    def rows(self):
        """Open it and read everything."""

        def read(tx):
            return tx.kernels(), tx.holds(), tx.events(None, 0, 1000)

        return self.use(lambda ledger: ledger.read(read))[1]

    def names(self):
        return [row.kernel_id for row in self.rows()[0]]

    def back_up(self):
        return Ledger(self.path).backups.make()

    def kept(self):
        """The directories of what was set aside."""
        return sorted(self.directory.glob("damaged-*"))


@pytest.fixture
def book(tmp_path):
    """A ledger in a directory of its own; it is not made yet."""
    return Book(tmp_path / "ledger.db")


@pytest.fixture
def log_left_behind(book, tmp_path):
    """Fill a ledger as an agent that is killed leaves it: with its last changes in the log only."""

    def leave(*names):
        book.fill("old")
        copy = tmp_path / "copy"
        copy.mkdir()

        async def body(ledger):
            for name in names:
                await ledger.write(PUT, lambda tx, n=name: tx.put_kernel(kernel(n)))
            for end in ("", "-wal"):
                source = book.path.with_name(book.path.name + end)
                (copy / source.name).write_bytes(source.read_bytes())

        book.use(body)
        for file in copy.iterdir():
            file.rename(book.directory / file.name)
        with contextlib.suppress(FileNotFoundError):
            book.path.with_name("ledger.db-shm").unlink()
        return book.path.with_name("ledger.db-wal")

    return leave
