"""Keeping backups of a ledger that is in use: now and then, at the end, and when somebody asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from agent_core.contracts.errors import AgentError, LedgerFailed, Reconciling
from agent_core.ledger.backups import Backup
from agent_core.ledger.store import Ledger

log = structlog.get_logger(__name__)


_DEADLINE: Final = 120.0


class BackupKeeper:
    """Makes backups, one at a time, in a thread: neither the loop nor a writer waits for them.

    Attributes:
        fault: Why the last one failed; empty when it did not.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._making = asyncio.Lock()
        self._backed_up = ledger.commits
        self.fault = ""

    async def back_up(self, to: Path | None = None) -> Backup:
        """Make a backup now.

        Args:
            to: A path of the caller's choice; by default one of those that are kept.

        Raises:
            Reconciling: while rows may be missing; what is kept must not give way to that.
            LedgerFailed: when it cannot be written.
            Conflict: when there is something at `to`.
        """
        async with self._making:
            if why := self._ledger.reconciling:
                raise Reconciling(f"the ledger was lost, and rows may be missing in it: {why}")
            commits = self._ledger.commits
            backup = await self._make(to)
            if to is None:
                self._backed_up, self.fault = commits, ""
            return backup

    async def _make(self, to: Path | None) -> Backup:
        try:
            async with asyncio.timeout(_DEADLINE):
                return await asyncio.to_thread(self._ledger.backups.make, to)
        except TimeoutError as exc:
            raise LedgerFailed(f"a backup is not written after {_DEADLINE:g} s") from exc

    async def back_up_changes(self) -> None:
        """Make a backup where something has changed since the last; a failure is noted."""
        if self._ledger.commits == self._backed_up or self._ledger.reconciling:
            return
        try:
            backup = await self.back_up()
        except AgentError as exc:
            self.fault = exc.message
            log.warning("the ledger could not be backed up", error=exc.message)
        else:
            log.debug("the ledger is backed up", path=str(backup.path), size=backup.size)
