"""What callers of the RPC may do: three roles, each including those before it."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """What a caller may do; each role includes those before it."""

    READ = 1
    """Look at the node, its kernels, their logs and events."""
    OPERATE = 2
    """Create and destroy kernels, and run code in them."""
    ADMIN = 3
    """See and change the agent itself."""

    @property
    def label(self) -> str:
        """The role as people and files write it."""
        return self.name.lower()
