"""As whom kernels run, where their backend can choose that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class User:
    """The user and the group of all kernels.

    Attributes:
        uid: The user's number.
        gid: The group's number.
    """

    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int, gid: int) -> User:
        """Make one of what is configured; -1 is the agent's own."""
        return cls(os.geteuid() if uid < 0 else uid, os.getegid() if gid < 0 else gid)

    @property
    def is_another(self) -> bool:
        """Whether it is another than the agent's own."""
        return (self.uid, self.gid) != (os.geteuid(), os.getegid())

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"

    def own(self, *paths: Path) -> None:
        """Let directories and sockets belong to it; what they hold stays as it is.

        Raises:
            OSError: when the agent may not give them away.
        """
        for path in paths if self.is_another else ():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_open(self, file: int) -> None:
        """Let an open file belong to it."""
        if self.is_another:
            os.fchown(file, self.uid, self.gid)

    def faults(self) -> Iterator[str]:
        """Say why the agent cannot run kernels as it, if it cannot."""
        if self.is_another and os.geteuid():
            yield f"kernels cannot run as {self}: the agent is user {os.geteuid()} and not root"


OWN = User.of(-1, -1)
"""The agent's own user and group."""
