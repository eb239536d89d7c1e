"""Sessions: the kernels that belong together, created and destroyed as one."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent_core.contracts.errors import Conflict, InvalidSpec, NotFound
from agent_core.kernels.cluster import MOST, Cluster, arranged, is_role, read_cluster
from agent_core.kernels.intents import Ending
from agent_core.kernels.startup import COMMAND
from agent_core.kernels.states import NEVER_WHOLE, KernelState, Reason
from agent_core.ledger import KernelRow
from agent_core.wire import models as m


def new_id() -> str:
    """Make up the id of a session."""
    return uuid.uuid4().hex[:12]


def place(session_id: str, specs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give each kernel of a session its place, its id and the session's id.

    A specification may say its ``role``; the first is ``main`` and the others ``sub`` by default.
    A kernel without an id gets one of the session and its host name, so that asking twice is
    asking for the same.

    Raises:
        InvalidSpec: when there are none or too many, or one says what the session decides.
    """
    if not 1 <= len(specs) <= MOST:
        raise InvalidSpec(f"kernels: a session has 1 to {MOST} kernels, not {len(specs)}")
    roles = [spec.get("role", "sub" if i else "main") for i, spec in enumerate(specs)]
    faults = [
        f"kernels[{i}].role: {role!r} is not 1 to 32 of a-z, 0-9 and '-', ending in a-z"
        for i, role in enumerate(roles)
        if not is_role(role)
    ]
    faults += [
        f"kernels[{i}].{name}: is decided by the session"
        for i, spec in enumerate(specs)
        for name in ("session_id", "cluster")
        if name in spec
    ]
    if sum(bool(spec.get(COMMAND)) for spec in specs) > 1:
        faults.append(f"kernels: more than one has a {COMMAND}, and a session ends with it")
    if faults:
        raise InvalidSpec("; ".join(faults), details={"faults": faults})
    places = arranged(roles)
    placed = [_placed(session_id, *each) for each in zip(specs, places, strict=True)]
    ids = [spec["kernel_id"] for spec in placed]
    if len({*map(str, ids)}) != len(ids):
        raise Conflict("kernels: an id is there twice", hint="Give each kernel an id of its own.")
    return placed


def _placed(session_id: str, spec: Mapping[str, Any], cluster: Cluster) -> Mapping[str, Any]:
    rest = {name: value for name, value in spec.items() if name != "role"}
    kernel_id = rest.get("kernel_id") or f"{session_id}-{cluster.host}"
    placed = {**rest, "kernel_id": kernel_id, "session_id": session_id}
    return placed if cluster.alone else {**placed, "cluster": cluster.to_data()}


def session_rows(rows: Iterable[KernelRow]) -> list[m.SessionRow]:
    """Gather kernels by their session, the oldest session first."""
    sessions: dict[str, list[KernelRow]] = {}
    for row in sorted(rows, key=lambda row: (row.created_at, row.kernel_id)):
        sessions.setdefault(row.session_id, []).append(row)
    return [_session(session_id, kernels) for session_id, kernels in sessions.items()]


def _session(session_id: str, rows: Sequence[KernelRow]) -> m.SessionRow:
    return m.SessionRow(
        session_id=session_id,
        created_at=rows[0].created_at,
        kernels=tuple(
            m.SessionKernel(
                kernel_id=row.kernel_id,
                host=read_cluster(row.spec.get("cluster"))[0].host,
                state=row.state,
                reason=row.reason,
            )
            for row in rows
        ),
    )


def end_of_session(row: KernelRow) -> Ending | None:
    """Say how the other kernels of a session end when this one does; None when they go on."""
    what = f"kernel {row.kernel_id} of session {row.session_id}"
    if row.state not in (KernelState.TERMINATING, KernelState.TERMINATED):
        return None
    if row.reason in NEVER_WHOLE:
        return Ending(Reason.SESSION_FAILED, f"{what} could not be created")
    if row.spec.get(COMMAND):
        return Ending(Reason.SESSION_ENDED, f"{what} has ended, and with it the startup command")
    return None


def no_session(session_id: str) -> NotFound:
    """Say that there is no such session."""
    return NotFound(
        f"there is no session {session_id!r}",
        hint="`agentctl sessions list --all` shows all.",
    )
