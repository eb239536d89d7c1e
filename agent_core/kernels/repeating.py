"""A create that was asked for before: the same answer, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from agent_core.contracts.errors import Conflict, CreateInterrupted, WrongState
from agent_core.kernels.spec import KernelSpec
from agent_core.kernels.states import Reason
from agent_core.ledger import KernelRow
from agent_core.wire import models as m


def repeated(rows: Sequence[KernelRow | None], wanted: Sequence[KernelSpec]) -> list[m.Created]:
    """Answer a create of ids of which at least one is known.

    Raises:
        Conflict: when something else was asked for under these ids.
        CreateInterrupted: when this very create was undone after a crash.
        WrongState: when a kernel of these has ended.
    """
    answers = []
    for row, spec in zip(rows, wanted, strict=True):
        if row is None:
            raise Conflict(
                f"session {spec.session_id} exists without kernel {spec.kernel_id}",
                hint="Use a new session id, or repeat the first request exactly.",
            )
        answers.append(_repeated(row, spec))
    return answers


def _repeated(row: KernelRow, wanted: KernelSpec) -> m.Created:
    if row.spec_digest != wanted.digest:
        raise Conflict(
            f"kernel {wanted.kernel_id} exists with another specification",
            hint="Use a new kernel id, or repeat the first specification exactly.",
        )
    if row.reason == Reason.CREATE_INTERRUPTED:
        raise CreateInterrupted(f"the create of kernel {wanted.kernel_id} was interrupted")
    if row.ended_at is not None:
        raise WrongState(
            f"kernel {wanted.kernel_id} has ended: {row.reason}", hint="Use a new kernel id."
        )
    return m.Created(kernel_id=row.kernel_id, session_id=row.session_id, state=row.state)
