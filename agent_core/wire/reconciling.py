"""What a reconciliation and the mending of leaks say of each thing that they looked at."""

from __future__ import annotations

from typing import Literal

from agent_core.wire.models import Model


class Reconciled(Model):
    """What became of one kernel, or of one thing that nobody holds, and why.

    `kind` is `kernel`, or the kind of the hold that the thing should have. `outcome` says what was
    done; it is empty where nothing was to be done, and in a dry run.
    """

    kind: str
    key: str
    kernel_id: str | None = None
    verdict: str
    because: str
    outcome: str = ""


class Reconciliation(Model):
    """One comparison of the ledger with the world.

    `kernels` have been looked at, of which `agreed` are as the ledger says; `actions` has the rest.
    """

    dry_run: bool
    kernels: int
    agreed: int
    actions: list[Reconciled]
    warnings: tuple[str, ...] = ()


Outcome = Literal["given-back", "ending", "left", "failed"]


class MendedLeak(Model):
    """What became of one leak, and why."""

    kind: str
    key: str
    kernel_id: str | None
    outcome: Outcome
    because: str
