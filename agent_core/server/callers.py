"""Who may call by TCP: the keys in the agent's directory, looked at again while it serves."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from agent_core.contracts.errors import InvalidConfig
from agent_core.wire.keys import Caller, caller_files, read_caller
from agent_core.wire.roles import Role

log = logging.getLogger(__name__)


class _Stamp(NamedTuple):
    """What differs whenever a file was written or replaced."""

    inode: int
    changed: int
    modified: int
    size: int


class Callers:
    """The callers of one directory by their keys.

    A look costs one listing and one stat for each file; only files that changed are read. These
    are a few lines on the disk of the state directory, so that this is done where it is asked for.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, tuple[_Stamp, Caller | None]] = {}
        self._roles: dict[str, Role] = {}
        self.look()

    def role(self, public: str) -> Role | None:
        """Return what the holder of a key may do; None for one that is not allowed."""
        return self._roles.get(public)

    def look(self) -> bool:
        """Read what has changed since the last look; True when somebody's role is another now."""
        try:
            paths = caller_files(self._directory)
        except FileNotFoundError:
            paths = []
        except OSError as exc:
            log.warning("cannot look for RPC keys in %s: %s", self._directory, exc.strerror)
            return False
        self._files = {path: read for path in paths if (read := self._read(path)) is not None}
        before, self._roles = self._roles, _roles(caller for _, caller in self._files.values())
        return self._roles != before

    def _read(self, path: Path) -> tuple[_Stamp, Caller | None] | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        stamp = _Stamp(stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size)
        known = self._files.get(path)
        if known is not None and known[0] == stamp:
            return known
        try:
            return stamp, read_caller(path)
        except InvalidConfig as exc:
            # Whoever cannot be read is not admitted; everybody else still is.
            log.warning("%s", exc.message)
            return stamp, None


def _roles(callers: Iterable[Caller | None]) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for caller in callers:
        if caller is not None:
            public = caller.public.decode()
            # Of a key that lies there under two names, the lesser role counts.
            roles[public] = min(caller.role, roles.get(public, caller.role))
    return roles
