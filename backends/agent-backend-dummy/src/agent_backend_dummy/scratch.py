"""Simulated scratch storage: there is none, and who has it is written down all the same."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from agent_core.contracts.errors import InvalidArgument, NotFound
from agent_core.contracts.info import PluginInfo, Support
from agent_core.contracts.scratch import Scratch, ScratchManager, ScratchUsage
from agent_core.hookspecs import hookimpl

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class DummyScratch(ScratchManager):
    """Scratches that are nowhere: ``Scratch.path`` is empty, and nothing uses any space."""

    info: ClassVar[PluginInfo] = PluginInfo(
        kind="scratch",
        name="dummy",
        summary="Simulated scratch storage: no directory is made",
        config_schema={
            "type": "object",
            "properties": {
                "root": {"description": "Where scratches would be made.", "type": "string"},
                "state-dir": {
                    "description": "Where they are written down; by default at the root.",
                    "type": "string",
                },
                "owner": {"description": "The agent.", "type": "string"},
            },
        },
        capabilities={"size-limit": Support.YES, "directory": Support.NO},
        instant=("create", "destroy", "usage"),
    )

    def __init__(self) -> None:
        self._owner = ""
        self._db: sqlite3.Connection | None = None

    def open(self, config: Mapping[str, Any]) -> None:
        """Open the list of scratches."""
        self._owner = str(config.get("owner", ""))
        directory = Path(config.get("state-dir", config["root"]))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = directory / f"dummy-scratches.{self._owner}.db"
        self._db = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS scratches (kernel TEXT PRIMARY KEY, size INTEGER)"
            " WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close the list."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def _list(self) -> sqlite3.Connection:
        if self._db is None:
            raise InvalidArgument("the scratch manager is not open")
        return self._db

    def create(self, kernel_id: str, size: int | None = None) -> Scratch:
        """Note a scratch; one that is there is left as it is."""
        _check(kernel_id)
        put = "INSERT OR IGNORE INTO scratches VALUES (?,?)"
        fresh = self._list.execute(put, [kernel_id, size]).rowcount == 1
        limit = size if fresh else self.usage(kernel_id).limit
        return Scratch(kernel_id, "", limit, self._owner)

    def grow(self, kernel_id: str, size: int) -> Scratch:
        """Raise the limit of a scratch."""
        self.usage(kernel_id)
        self._list.execute("UPDATE scratches SET size = ? WHERE kernel = ?", [size, kernel_id])
        return Scratch(kernel_id, "", size, self._owner)

    def destroy(self, kernel_id: str) -> None:
        """Forget a scratch; succeeds when there is none."""
        _check(kernel_id)
        self._list.execute("DELETE FROM scratches WHERE kernel = ?", [kernel_id])

    def usage(self, kernel_id: str) -> ScratchUsage:
        """Say that nothing is used."""
        _check(kernel_id)
        found = self._list.execute(
            "SELECT size FROM scratches WHERE kernel = ?", [kernel_id]
        ).fetchone()
        if found is None:
            raise NotFound(f"kernel {kernel_id} has no scratch")
        return ScratchUsage(0, found[0])

    def list(self) -> Sequence[Scratch]:
        """List every scratch."""
        rows = self._list.execute("SELECT kernel, size FROM scratches ORDER BY kernel")
        return [Scratch(kernel, "", size, self._owner) for kernel, size in rows]


def _check(kernel_id: str) -> None:
    if not _ID.fullmatch(kernel_id):
        raise InvalidArgument(f"{kernel_id!r} is not the id of a kernel")


@hookimpl
def register_scratch() -> type[ScratchManager]:
    """Register the simulated scratch manager."""
    return DummyScratch
