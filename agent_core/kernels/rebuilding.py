"""What a recovered ledger lacks, found in the records that the backend keeps: a pure plan.

The ledger may be an old backup, or empty. What runs with a record of ours is a kernel, whatever
the ledger says; what the ledger says and the backend does not have is left to the adoption.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent_core.contracts.backend import ContainerState, ContainerStatus, Presence
from agent_core.kernels.records import Remembered, UnreadableRecordError, read_record
from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, HoldState, KernelRow

_UNSETTLED = {KernelState.PREPARING, KernelState.RESTARTING}


@dataclass(slots=True)
class Rebuild:
    """What is to be written.

    Attributes:
        rows: Kernels that are missing, or of which more is known than the ledger has.
        holds: What they hold.
        stale: Holds of others on the same things, from before the backup's end.
        unknown: Containers of ours of which nobody can tell whose they are, in words.
    """

    rows: list[KernelRow] = field(default_factory=list)
    holds: list[HoldRow] = field(default_factory=list)
    stale: list[HoldRow] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Found:
    status: ContainerStatus
    remembered: Remembered


def plan_rebuild(
    rows: Iterable[KernelRow], holds: Sequence[HoldRow], containers: Iterable[ContainerStatus]
) -> Rebuild:
    """Decide what to write.

    Args:
        rows: The kernels of the recovered ledger.
        holds: Its holds.
        containers: All that the backend has of this agent.
    """
    known = {row.kernel_id: row for row in rows}
    found, rebuild = _read(containers, known)
    for kernel_id, each in found.items():
        old = known.get(kernel_id)
        row = _row(old, each)
        if row is not None:
            _restore(rebuild, each.remembered, holds, None if row is old else row)
    return rebuild


def _read(
    containers: Iterable[ContainerStatus], known: Mapping[str, KernelRow]
) -> tuple[dict[str, _Found], Rebuild]:
    """Read the records, of several containers of one kernel the last one's."""
    found: dict[str, _Found] = {}
    rebuild = Rebuild()
    live = {row.container for row in known.values() if row.ended_at is None}
    for status in containers:
        try:
            each = _Found(status, _remember(status))
        except UnreadableRecordError as exc:
            if status.name not in live and status.presence is not Presence.ABSENT:
                rebuild.unknown.append(f"container {status.name}: {exc}")
            continue
        kernel_id = each.remembered.row.kernel_id
        last = found.get(kernel_id)
        if last is None or last.remembered.row.incarnation < each.remembered.row.incarnation:
            found[kernel_id] = each
    return found, rebuild


def _remember(status: ContainerStatus) -> Remembered:
    if status.presence is not Presence.PRESENT:
        raise UnreadableRecordError(status.reason or "nobody can tell what it is")
    remembered = read_record(status.record)
    if remembered.row.container != status.name:
        raise UnreadableRecordError(f"its record is of {remembered.row.container}")
    return remembered


def _row(row: KernelRow | None, each: _Found) -> KernelRow | None:
    """Say what a kernel's row must be: the ledger's where that is right, None where it is over."""
    told, state = each.remembered.row, each.status.state
    # What was created and never started was in the middle of its create: that is undone.
    created = state is ContainerState.CREATED
    made = replace(told, state=KernelState.PREPARING.value) if created else told
    if row is None:
        return made
    made = replace(made, version=row.version + 1)
    if row.spec_digest == told.spec_digest:
        made = replace(made, spec=row.spec, warnings=row.warnings)  # with its environment
    if (told.created_at, told.incarnation) > (row.created_at, row.incarnation):
        return made
    if row.ended_at is not None:
        return made if state is ContainerState.RUNNING else None
    if told.incarnation < row.incarnation:
        return None
    completed = row.state in _UNSETTLED and not created
    return replace(row, state=made.state, version=row.version + 1) if completed else row


def _restore(
    rebuild: Rebuild, remembered: Remembered, holds: Sequence[HoldRow], row: KernelRow | None
) -> None:
    """Add what is missing; the row only where it is another than the ledger has."""
    kernel_id = remembered.row.kernel_id
    keys = {(hold.kind, hold.key) for hold in remembered.holds if not hold.shared}
    taken = {(hold.kind, hold.key) for hold in rebuild.holds if not hold.shared}
    own = taken | {
        (hold.kind, hold.key)
        for hold in holds
        if hold.kernel_id == kernel_id and hold.state is not HoldState.TAKING
    }
    others = [hold for hold in holds if hold.kernel_id != kernel_id]
    rebuild.rows += [] if row is None else [row]
    rebuild.holds += [hold for hold in remembered.holds if (hold.kind, hold.key) not in own]
    # Whoever had it in the backup has given it back since: this kernel runs with it.
    rebuild.stale += [hold for hold in others if (hold.kind, hold.key) in keys]
