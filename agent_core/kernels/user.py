"""As whom kernels run, where their backend can choose that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent_core.contracts.errors import InvalidConfig


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

    def check(self) -> None:
        """Refuse one as whom the agent cannot run kernels.

        Raises:
            InvalidConfig: when the agent is not root, and so may give nothing away.
        """
        if self.is_another and os.geteuid():
            raise InvalidConfig(
                f"kernels cannot run as {self}: the agent is user {os.geteuid()} and not root",
                hint="Leave [container] kernel-uid and kernel-gid out, or run the agent as root.",
            )


OWN = User.of(-1, -1)
"""The agent's own user and group."""
