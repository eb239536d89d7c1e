"""What can be read and written inside one transaction of the ledger."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from agent_core.contracts.errors import InternalError
from agent_core.ledger import tables
from agent_core.ledger.recovery import Recovery
from agent_core.ledger.rows import EventRow, HoldRow, HoldState, KernelRow
from agent_core.ledger.sums import FUNCTION, sum_of

_KERNEL_COLUMNS = tuple(f.name for f in fields(KernelRow))
_JSON_COLUMNS = {"spec", "warnings", "timings"}
_HOLD_COLUMNS = "kind, key, kernel_id, incarnation, state, undo, ordinal, note, shared"


def _upsert(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    updates = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608 - names are ours
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"
    )


_PUT_KERNEL = _upsert("kernels", [*_KERNEL_COLUMNS, "sum"], ["kernel_id"])
_PUT_HOLD = _upsert("holds", [*_HOLD_COLUMNS.split(", "), "sum"], ["kind", "key", "kernel_id"])
_MARK_HOLDS = (
    "UPDATE holds SET state = ?, sum = "  # noqa: S608 - a constant
    f"{FUNCTION}({_HOLD_COLUMNS.replace('state', '?')}) WHERE kernel_id = ?"
)


def _summed(values: list[Any]) -> list[Any]:
    """Add the sum of a row; the values are in the order of the table's columns."""
    return [*values, sum_of(*values)]


# Made once: `json.dumps` with separators of one's own makes an encoder in each call.
_json: Final = json.JSONEncoder(separators=(",", ":")).encode


def _kernel_values(row: KernelRow) -> list[Any]:
    return [
        _json(getattr(row, name)) if name in _JSON_COLUMNS else getattr(row, name)
        for name in _KERNEL_COLUMNS
    ]


def _table(text: str) -> dict[str, Any]:
    """Read a JSON object; one that cannot be read must not hide the rows beside it."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _kernel(values: Sequence[Any]) -> KernelRow:
    data = dict(zip(_KERNEL_COLUMNS, values, strict=True))
    data["spec"] = _table(data["spec"])
    data["warnings"] = tuple(json.loads(data["warnings"]))
    data["timings"] = tuple((s, t, c) for s, t, c in json.loads(data["timings"]))
    return KernelRow(**data)


def _hold(values: Sequence[Any]) -> HoldRow:
    kind, key, kernel_id, incarnation, state, undo, order, note, shared = values
    return HoldRow(
        kind,
        key,
        kernel_id,
        incarnation,
        HoldState(state),
        _table(undo),
        order,
        note,
        bool(shared),
    )


def _hold_values(hold: HoldRow) -> list[Any]:
    return [
        hold.kind,
        hold.key,
        hold.kernel_id,
        hold.incarnation,
        hold.state,
        _json(hold.undo),
        hold.order,
        hold.note,
        hold.shared,
    ]


def _event(values: Sequence[Any]) -> EventRow:
    sequence, epoch, name, at, kernel_id, session_id, data = values
    return EventRow(epoch, sequence, name, at, kernel_id, session_id, json.loads(data))


class Transaction:
    """One transaction; lives only inside the function given to `Ledger.write` or `Ledger.read`."""

    def __init__(self, connection: sqlite3.Connection, epoch: str) -> None:
        self._db = connection
        self._epoch = epoch

    # ---- kernels ----

    def put_kernel(self, row: KernelRow) -> None:
        """Insert a kernel, or replace its row by a newer version."""
        self._db.execute(_PUT_KERNEL, _summed(_kernel_values(row)))

    def kernels(self, *, include_ended: bool = True) -> list[KernelRow]:
        """List kernels, oldest first."""
        where = "" if include_ended else "WHERE ended_at IS NULL"
        rows = self._db.execute(
            f"SELECT {','.join(_KERNEL_COLUMNS)} FROM kernels {where} "  # noqa: S608 - column names are ours
            "ORDER BY created_at, kernel_id"
        )
        return [_kernel(row) for row in rows]

    def kernels_of(self, session_id: str) -> list[KernelRow]:
        """List the kernels of one session, oldest first."""
        rows = self._db.execute(
            f"SELECT {','.join(_KERNEL_COLUMNS)} FROM kernels WHERE session_id = ? "  # noqa: S608 - column names are ours
            "ORDER BY created_at, kernel_id",
            [session_id],
        )
        return [_kernel(row) for row in rows]

    def kernel(self, kernel_id: str) -> KernelRow | None:
        """Find one kernel by its whole id."""
        row = self._db.execute(
            f"SELECT {','.join(_KERNEL_COLUMNS)} FROM kernels WHERE kernel_id = ?",  # noqa: S608 - column names are ours
            [kernel_id],
        ).fetchone()
        return _kernel(row) if row else None

    def kernel_ids(self, prefix: str, limit: int = 10) -> list[str]:
        """List kernel ids that begin with a prefix."""
        rows = self._db.execute(
            "SELECT kernel_id FROM kernels WHERE kernel_id >= ? AND kernel_id < ? LIMIT ?",
            [prefix, prefix + "\U0010ffff", limit],
        )
        return [row[0] for row in rows]

    def have_ended(self, kernel_ids: Iterable[str]) -> dict[str, bool]:
        """Say of some kernels whether they have ended; those that are not known are missing."""
        wanted = [*kernel_ids]
        rows = self._db.execute(
            "SELECT kernel_id, ended_at IS NOT NULL FROM kernels "  # noqa: S608 - only marks are added
            f"WHERE kernel_id IN ({','.join('?' * len(wanted))})",
            wanted,
        )
        return {kernel_id: bool(ended) for kernel_id, ended in rows}

    def forget_ended(self, before: float) -> list[str]:
        """Delete kernels that ended before a time and hold nothing, and their events.

        What is as old and about no kernel goes as well.
        """
        doomed = self._db.execute(
            "SELECT kernel_id FROM kernels WHERE ended_at < ? "
            "AND kernel_id NOT IN (SELECT kernel_id FROM holds)",
            [before],
        ).fetchall()
        self._db.executemany("DELETE FROM outbox WHERE kernel_id = ?", doomed)
        self._db.execute("DELETE FROM outbox WHERE kernel_id IS NULL AND at < ?", [before])
        self._db.executemany("DELETE FROM kernels WHERE kernel_id = ?", doomed)
        return [row[0] for row in doomed]

    # ---- holds ----

    def put_holds(self, holds: Iterable[HoldRow]) -> None:
        """Insert holds, or replace the rows of the same kind, key and kernel.

        Raises:
            InternalError: when another kernel holds what is not shared.
        """
        try:
            self._db.executemany(_PUT_HOLD, [_summed(_hold_values(hold)) for hold in holds])
        except sqlite3.IntegrityError as exc:
            raise InternalError(f"a hold cannot be written: {exc}") from exc

    def drop_holds(self, holds: Iterable[HoldRow]) -> None:
        """Delete holds whose things are proven given back."""
        self._db.executemany(
            "DELETE FROM holds WHERE kind = ? AND key = ? AND kernel_id = ?",
            [(h.kind, h.key, h.kernel_id) for h in holds],
        )

    def holders(self, kind: str, key: str) -> list[str]:
        """List the kernels that hold one thing."""
        rows = self._db.execute(
            "SELECT kernel_id FROM holds WHERE kind = ? AND key = ?", [kind, key]
        )
        return [row[0] for row in rows]

    def mark_holds(self, kernel_id: str, state: HoldState) -> None:
        """Set the state of all holds of one kernel."""
        self._db.execute(_MARK_HOLDS, [state, state, kernel_id])

    def holds(self, kernel_id: str | None = None) -> list[HoldRow]:
        """List the holds of one kernel, or of all, in the order of taking."""
        where, values = ("", []) if kernel_id is None else ("WHERE kernel_id = ?", [kernel_id])
        rows = self._db.execute(
            f"SELECT {_HOLD_COLUMNS} FROM holds {where} ORDER BY kernel_id, ordinal",  # noqa: S608 - constants
            values,
        )
        return [_hold(row) for row in rows]

    def holds_of_kind(self, kind: str) -> list[HoldRow]:
        """List the holds of one kind, in the order of taking."""
        rows = self._db.execute(
            f"SELECT {_HOLD_COLUMNS} FROM holds WHERE kind = ? ORDER BY kernel_id, ordinal",  # noqa: S608 - constants
            [kind],
        )
        return [_hold(row) for row in rows]

    def holds_since(self, limit: int) -> list[tuple[HoldRow, float]]:
        """List holds, those of the oldest kernels first, each with when its kernel was created."""
        columns = ", ".join(f"holds.{name}" for name in _HOLD_COLUMNS.split(", "))
        rows = self._db.execute(
            f"SELECT created_at, {columns} FROM holds JOIN kernels USING (kernel_id) "  # noqa: S608 - constants
            "ORDER BY created_at, kernel_id, ordinal LIMIT ?",
            [limit],
        )
        return [(_hold(hold), since) for since, *hold in rows]

    # ---- the ledger itself ----

    def meta(self) -> dict[str, str]:
        """Read what is known of the ledger itself."""
        return dict(self._db.execute("SELECT key, value FROM meta").fetchall())

    def counts(self) -> dict[str, int]:
        """Count the rows of each table."""
        count = "SELECT count(*) FROM {}"
        names = ("kernels", "holds", "outbox")
        return {name: self._db.execute(count.format(name)).fetchone()[0] for name in names}

    def kernel_counts(self) -> dict[str, int]:
        """Count the kernels by state."""
        rows = self._db.execute("SELECT state, count(*) FROM kernels GROUP BY state ORDER BY state")
        return dict(rows.fetchall())

    def probe(self, at: float) -> None:
        """Change something that has no meaning."""
        tables.put(self._db, {"probed": str(at)})

    def is_reconciling(self) -> bool:
        """Whether rows may be missing that the backend's records have."""
        return tables.RECONCILING in self.meta()

    def reconciled(self, recovery: Recovery | None) -> None:
        """Note that the backend's records were read, and no row is missing any more."""
        self._db.execute("DELETE FROM meta WHERE key = ?", [tables.RECONCILING])
        if recovery is not None:
            tables.put(self._db, {tables.RECOVERY: _json(recovery.to_data())})

    # ---- outbox ----

    def add_event(
        self,
        name: str,
        at: float,
        *,
        kernel_id: str | None = None,
        session_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> EventRow:
        """Append an event; it is told once the transaction is durable."""
        last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        sequence = (last[0] if last else 0) + 1
        values = [sequence, self._epoch, name, at, kernel_id, session_id, _json(data or {})]
        self._db.execute("INSERT INTO outbox VALUES (?,?,?,?,?,?,?,?)", _summed(values))
        return EventRow(self._epoch, sequence, name, at, kernel_id, session_id, dict(data or {}))

    def events(self, kernel_id: str | None, after: int, limit: int) -> list[EventRow]:
        """List events after a sequence number, oldest first."""
        where, values = "WHERE sequence > ?", [after]
        if kernel_id is not None:
            where, values = f"{where} AND kernel_id = ?", [after, kernel_id]  # type: ignore[list-item]
        rows = self._db.execute(
            "SELECT sequence, epoch, name, at, kernel_id, session_id, data "  # noqa: S608 - constants
            f"FROM outbox {where} ORDER BY sequence LIMIT ?",
            [*values, limit],
        )
        return [_event(row) for row in rows]
