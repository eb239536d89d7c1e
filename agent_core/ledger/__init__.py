"""The node's durable memory: kernels, what is held, and the events to tell; one SQLite database."""

from agent_core.ledger.backups import Backup, Backups
from agent_core.ledger.keeping import BackupKeeper
from agent_core.ledger.lock import StateLock
from agent_core.ledger.recovery import Recovery
from agent_core.ledger.rows import EventRow, HoldRow, HoldState, KernelRow
from agent_core.ledger.store import Commit, Ledger
from agent_core.ledger.transaction import Transaction

__all__ = [
    "Backup",
    "BackupKeeper",
    "Backups",
    "Commit",
    "EventRow",
    "HoldRow",
    "HoldState",
    "KernelRow",
    "Ledger",
    "Recovery",
    "StateLock",
    "Transaction",
]
