"""The contract of scratch storage: a kernel's own temporary directory.

All methods are synchronous and idempotent by kernel id. `destroy` succeeds when nothing is left.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from agent_core.contracts.errors import Unsupported
from agent_core.contracts.info import Plugin


@dataclass(frozen=True, slots=True)
class Scratch:
    """One kernel's scratch on the host.

    Attributes:
        kernel_id: The owner.
        path: The directory that is mounted as the kernel's home. It holds `config`, which is the
            agent's, and `work`, which is the user's; both exist once `create` has returned. Empty
            where the scratch is simulated and no directory is made.
        size_limit: Bytes it can hold, or None when nothing limits it.
        owner: The agent whose mark it bears; None where nothing proves whose it is. Only what has
            an owner is ever removed without its kernel's asking.
    """

    kernel_id: str
    path: str
    size_limit: int | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ScratchUsage:
    """How full a scratch is: bytes used, and the limit or None."""

    used: int
    limit: int | None = None


class ScratchManager(Plugin):
    """What a scratch plugin implements.

    Its configuration always has ``root``, the directory to make scratches in, and ``owner``, the
    agent's id: agents may share a root, and none lists or touches what is another's.
    """

    @abstractmethod
    def create(self, kernel_id: str, size: int | None = None) -> Scratch:
        """Make the kernel's scratch, or return the one that exists.

        Args:
            kernel_id: The owner; also the key.
            size: Bytes to limit it to; None for no limit.

        Raises:
            Unsupported: when a size is asked for and this type cannot limit it.
        """
        raise NotImplementedError

    @abstractmethod
    def destroy(self, kernel_id: str) -> None:
        """Remove the scratch with all that is in it; succeeds when there is none."""
        raise NotImplementedError

    @abstractmethod
    def usage(self, kernel_id: str) -> ScratchUsage:
        """Measure how full it is.

        Raises:
            NotFound: when the kernel has no scratch.
        """
        raise NotImplementedError

    @abstractmethod
    def list(self) -> Sequence[Scratch]:
        """List every scratch that exists, also those that no ledger knows."""
        raise NotImplementedError

    def grow(self, kernel_id: str, size: int) -> Scratch:
        """Raise the limit to `size` bytes.

        Raises:
            Unsupported: when this type has no limits; the default.
        """
        raise Unsupported(f"scratch type {self.info.name!r} has no size limit to raise")
