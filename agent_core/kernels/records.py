"""The record that the backend keeps with each container, and the rows that are made from it.

It has what a lost ledger must know of a kernel again, and no secret: of the environment that was
asked for only the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, HoldState, KernelRow

VERSION: Final = 2
_OWN: Final = ("kernel_id", "session_id", "incarnation", "created_at", "spec_digest", "container")
_SECRET: Final = ("env", "dotfiles", "bootstrap_script")
"""What was asked for that may hold secrets; files that it became are in the scratch."""
_REBUILT: Final = "the ledger was lost, and this kernel was found again by its container's record"
_ENV_LOST: Final = "the values of the environment that was asked for are not known any more: {}"


class UnreadableRecordError(ValueError):
    """Raised when a record is not one that this version wrote."""


class Remembered(NamedTuple):
    """A kernel as its container's record has it: running, until somebody looks."""

    row: KernelRow
    holds: tuple[HoldRow, ...]


def record_of(row: KernelRow, holds: Sequence[HoldRow]) -> dict[str, Any]:
    """Write the record of a kernel that holds all it needs for its container."""
    spec = {name: value for name, value in row.spec.items() if name not in _SECRET}
    return {
        "version": VERSION,
        **{name: getattr(row, name) for name in _OWN},
        "spec": spec,
        "env": sorted(row.spec.get("env") or ()),
        "holds": [_hold_data(hold) for hold in holds],
    }


def read_record(record: Mapping[str, Any]) -> Remembered:
    """Make the rows again that a record was written from.

    Raises:
        UnreadableRecordError: when it cannot be read as one.
    """
    if record.get("version") != VERSION:
        raise UnreadableRecordError(f"its record has version {record.get('version')!r}")
    try:
        return _remembered(record)
    except (KeyError, TypeError, ValueError) as exc:
        what = f"its record cannot be read: {type(exc).__name__}: {exc}"
        raise UnreadableRecordError(what) from exc


def _remembered(record: Mapping[str, Any]) -> Remembered:
    env = [str(name) for name in record["env"]]
    row = KernelRow(
        kernel_id=_text(record, "kernel_id"),
        session_id=_text(record, "session_id"),
        state=KernelState.RUNNING.value,
        spec=dict(record["spec"]),
        spec_digest=_text(record, "spec_digest"),
        created_at=float(record["created_at"]),
        incarnation=int(record["incarnation"]),
        container=_text(record, "container"),
        warnings=(_REBUILT, *([_ENV_LOST.format(", ".join(env))] if env else [])),
    )
    return Remembered(row, tuple(_hold(row, data) for data in record["holds"]))


def _text(record: Mapping[str, Any], name: str) -> str:
    if not isinstance(record[name], str) or not record[name]:
        raise ValueError(f"{name} is {record[name]!r}")
    return str(record[name])


def _hold_data(hold: HoldRow) -> dict[str, Any]:
    # Why a claim was given is for people, and long.
    undo = {name: value for name, value in hold.undo.items() if name != "why"}
    return {
        "kind": hold.kind,
        "key": hold.key,
        "incarnation": hold.incarnation,
        "undo": undo,
        "order": hold.order,
        "shared": hold.shared,
    }


def _hold(row: KernelRow, data: Mapping[str, Any]) -> HoldRow:
    return HoldRow(
        kind=_text(data, "kind"),
        key=_text(data, "key"),
        kernel_id=row.kernel_id,
        incarnation=int(data["incarnation"]),
        state=HoldState.HELD,
        undo=dict(data["undo"]),
        order=int(data["order"]),
        shared=bool(data["shared"]),
    )
