"""What the simulated runtime knows, in one file: it outlives every agent, killed or not.

Each change is one statement of SQLite. Nothing waits for a disk: what a process wrote survives its
own end, and a simulation need not survive that of its host's power.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent_core.contracts.backend import BackendEvent, ContainerState, ExitStatus
from agent_core.contracts.errors import InternalError

EVENTS_KEPT: Final = 10_000
"""Events that are kept for whoever asks with an old cursor."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS containers (
    name TEXT PRIMARY KEY, owner TEXT, spec TEXT, state TEXT, started REAL, exit TEXT, due REAL,
    ending TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, kind TEXT, name TEXT, exit TEXT
);
CREATE TABLE IF NOT EXISTS names (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    container TEXT, path TEXT, mode INTEGER, mtime REAL, data BLOB, PRIMARY KEY (container, path)
) WITHOUT ROWID;
"""
_DIGITS: Final = 18
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Row(NamedTuple):
    """One container as it is stored; `spec` is JSON."""

    name: str
    owner: str
    spec: str
    state: ContainerState
    started: float | None
    exit: ExitStatus | None
    due: float | None
    ending: ExitStatus | None


class Store:
    """The file of one simulated runtime, in a directory of its own.

    Raises:
        InternalError: when the file cannot be opened as one.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "dummy.db"
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            # One agent at a time has a runtime, so nobody else waits for the file.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_TABLES)
            found = self._db.execute("SELECT DISTINCT container FROM files")
            self._with_files = {name for (name,) in found}
        except sqlite3.DatabaseError as exc:
            self._db.close()
            raise InternalError(
                f"{path} is not the file of a simulated runtime: {exc}",
                hint="Move it away; the containers that it has are lost with it.",
            ) from exc

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._db.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make several changes one: what is killed meanwhile has made none of them."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ---- containers ----

    def add(self, name: str, owner: str, spec: Mapping[str, Any], files_of: str = "") -> None:
        """Write a container that was created, with the files that an image has, if any."""
        values = [name, owner, _encode(spec), ContainerState.CREATED]
        insert = "INSERT INTO containers (name, owner, spec, state) VALUES (?,?,?,?)"
        if files_of not in self._with_files:
            self._db.execute(insert, values)
            return
        with self.together():
            self._db.execute(insert, values)
            self.copy_files(files_of, name)

    def started(self, name: str, at: float, due: float | None, ending: ExitStatus | None) -> None:
        """Write that a container was started, and when and how it will end by itself."""
        self._db.execute(
            "UPDATE containers SET state = ?, started = ?, due = ?, ending = ? WHERE name = ?",
            [ContainerState.RUNNING, at, due, _exit_text(ending), name],
        )

    def doomed(self, name: str, due: float, ending: ExitStatus) -> None:
        """Write when and how a running container will end."""
        self._db.execute(
            "UPDATE containers SET due = ?, ending = ? WHERE name = ?",
            [due, _exit_text(ending), name],
        )

    def ended(self, name: str, status: ExitStatus) -> None:
        """Write that a container has ended."""
        self._db.execute(
            "UPDATE containers SET state = ?, exit = ?, due = NULL, ending = NULL WHERE name = ?",
            [ContainerState.EXITED, _exit_text(status), name],
        )

    def remove(self, name: str) -> None:
        """Delete a container with its files."""
        if name not in self._with_files:
            self._db.execute("DELETE FROM containers WHERE name = ?", [name])
            return
        # Together: files that were left would be those of the next container of that name.
        with self.together():
            self._db.execute("DELETE FROM containers WHERE name = ?", [name])
            self._db.execute("DELETE FROM files WHERE container = ?", [name])
        self._with_files.discard(name)

    def spec(self, name: str) -> dict[str, Any]:
        """Read what a container was created from; empty when there is none."""
        found = self._db.execute("SELECT spec FROM containers WHERE name = ?", [name]).fetchone()
        read: dict[str, Any] = json.loads(found[0]) if found else {}
        return read

    def rows(self) -> Iterator[Row]:
        """Read every container."""
        for row in self._db.execute(
            "SELECT name, owner, spec, state, started, exit, due, ending FROM containers"
        ):
            name, owner, spec, state, started, status, due, ending = row
            yield Row(
                *(name, owner, spec, ContainerState(state), started),
                *(_exit(status), due, _exit(ending)),
            )

    # ---- events ----

    def tell(self, kind: str, name: str, status: ExitStatus | None) -> None:
        """Append an event, and forget those that are beyond the bound."""
        number = self._db.execute(
            "INSERT INTO events (kind, name, exit) VALUES (?,?,?)", [kind, name, _exit_text(status)]
        ).lastrowid
        if number is not None and number % 1000 == 0:
            self._db.execute("DELETE FROM events WHERE number <= ?", [number - EVENTS_KEPT])

    def last_event(self) -> int:
        """Return the number of the newest event."""
        (found,) = self._db.execute("SELECT max(number) FROM events").fetchone()
        return int(found or 0)

    def events(self, after: int, limit: int) -> list[tuple[int, BackendEvent]]:
        """Read the events after a number, oldest first."""
        rows = self._db.execute(
            "SELECT number, kind, name, exit FROM events WHERE number > ? ORDER BY number LIMIT ?",
            [after, limit],
        )
        return [
            (number, BackendEvent(cursor_of(number), kind, name, _exit(status)))
            for number, kind, name, status in rows
        ]

    # ---- networks, images, files ----

    def names(self, kind: str) -> list[str]:
        """List the names of a kind, such as ``network`` or ``image``."""
        rows = self._db.execute("SELECT name FROM names WHERE kind = ? ORDER BY name", [kind])
        return [name for (name,) in rows]

    def put_name(self, kind: str, name: str) -> None:
        """Add a name of a kind."""
        self._db.execute("INSERT OR IGNORE INTO names VALUES (?,?)", [kind, name])

    def drop_name(self, kind: str, name: str) -> None:
        """Delete a name of a kind."""
        self._db.execute("DELETE FROM names WHERE kind = ? AND name = ?", [kind, name])

    def put_file(
        self, container: str, path: str, mode: int, mtime: float, data: bytes | None
    ) -> None:
        """Write a file of a container; a directory has no data."""
        self._with_files.add(container)
        values = [container, path, mode, mtime, data]
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)", values)

    def files(self, container: str) -> list[tuple[str, int, float, int | None]]:
        """List path, mode, time and size of a container's files; a directory has no size."""
        return self._db.execute(
            "SELECT path, mode, mtime, length(data) FROM files WHERE container = ? ORDER BY path",
            [container],
        ).fetchall()

    def file(self, container: str, path: str) -> bytes:
        """Read a file of a container; empty when there is none, and for a directory."""
        found = self._db.execute(
            "SELECT data FROM files WHERE container = ? AND path = ?", [container, path]
        ).fetchone()
        return bytes(found[0]) if found and found[0] is not None else b""

    def copy_files(self, source: str, target: str) -> None:
        """Give all that one container has, or an image, to another; what that had is gone."""
        self.drop_files(target)
        if source not in self._with_files:
            return
        self._with_files.add(target)
        self._db.execute(
            "INSERT INTO files SELECT ?, path, mode, mtime, data FROM files WHERE container = ?",
            [target, source],
        )

    def drop_files(self, container: str) -> None:
        """Delete the files of a container or an image."""
        if container in self._with_files:
            self._db.execute("DELETE FROM files WHERE container = ?", [container])
            self._with_files.discard(container)


def cursor_of(number: int) -> str:
    """Write an event's number as a cursor; cursors are in order as texts, too."""
    return f"{number:0{_DIGITS}d}"


def _exit_text(status: ExitStatus | None) -> str | None:
    if status is None:
        return None
    fields = (status.code, status.signal, status.oom, status.finished_at, status.observed)
    return _encode(fields)


def _exit(text: str | None) -> ExitStatus | None:
    return None if text is None else ExitStatus(*json.loads(text))
