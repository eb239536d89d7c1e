"""The typed models of the ledger: what is in it, how it is, and its backups."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent_core.wire.models import Model
from agent_core.wire.params import Params


class BackupLedger(Params):
    """Parameters of backup_ledger: an absolute path on the agent's node, or none for the kept ones.

    Nothing is replaced: there must be nothing at that path.
    """

    to: Annotated[str, Field(max_length=4096, pattern=r"^/[^\x00]*$")] | None = None


class BackupRow(Model):
    """One backup of the ledger; ``sound`` is null where nobody has looked."""

    path: str
    size: int
    at: float
    sound: bool | None = None


class LedgerHold(Model):
    """One hold; ``since`` is when its kernel was created."""

    kind: str
    key: str
    kernel_id: str
    state: str
    shared: bool = False
    since: float
    note: str = ""


class RecoveryRow(Model):
    """How the ledger was lost the last time, and what took its place.

    ``source`` is itself (it lacked its tail), backup or nothing.
    """

    at: float
    why: str
    source: str
    backup: str = ""
    kept: str = ""


class LedgerView(Model):
    """What is in the ledger; ``holds`` are the first thousand of ``holds_total``.

    ``reconciling`` says why rows may be missing; it is empty when none is.
    """

    path: str
    version: int
    epoch: str
    size: int
    kernels: dict[str, int]
    holds: list[LedgerHold]
    holds_total: int
    outbox: int
    last_backup: BackupRow | None = None
    reconciling: str = ""
    recovery: RecoveryRow | None = None


class LedgerCheck(Model):
    """How the ledger is.

    ``condition`` is sound, older, newer, damaged, incomplete or missing; ``known_version`` is what
    this agentctl knows, ``used_by`` the pid of the agent that has it open. ``rows`` counts by table
    and is empty where they cannot be counted.
    """

    path: str
    ok: bool
    condition: str
    version: int
    known_version: int
    problems: list[str]
    rows: dict[str, int]
    backups: list[BackupRow]
    used_by: int | None
    next_start: str
