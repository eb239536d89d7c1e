"""Core files of kernels that crash (``[debug.coredump]``): allowed, found at the end, and kept."""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")
_LOOKED_AT: Final = 10_000
"""Entries of a kernel's working directory that are looked at."""


@dataclass(frozen=True, slots=True)
class Cores:
    """What is done with core files.

    Attributes:
        path: Where they are kept.
        count: How many are kept; the oldest go first.
        limit: Bytes of the largest that a kernel may write.
    """

    path: Path
    count: int
    limit: int

    def collect(self, kernel_id: str, work: Path) -> None:
        """Move a kernel's core files to where they are kept; its processes have ended.

        What goes wrong is told and keeps no kernel from ending.
        """
        try:
            for number, core in enumerate(_cores_in(work, self.limit), 1):
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                kept = self.path / f"{kernel_id}.{number}.core"
                shutil.move(core, kept)
                kept.chmod(0o600)
                log.warning("a kernel left a core file", kernel_id=kernel_id, path=str(kept))
            self._forget()
        except OSError as exc:
            log.warning("core files were not kept", kernel_id=kernel_id, error=str(exc))

    def _forget(self) -> None:
        if self.path.is_dir():
            kept = sorted(self.path.glob("*.core"), key=lambda core: core.lstat().st_mtime)
            for core in kept[: max(0, len(kept) - self.count)]:
                core.unlink(missing_ok=True)


def _cores_in(work: Path, limit: int) -> Iterator[Path]:
    """Find core files directly in the working directory, where the kernel's processes began."""
    with contextlib.suppress(FileNotFoundError):
        for _, entry in zip(range(_LOOKED_AT), work.iterdir(), strict=False):
            # Code may name anything so: no link is followed, and nothing too large is kept.
            if entry.name == "core" or entry.name.startswith("core."):
                seen = entry.lstat()
                if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1 and seen.st_size <= limit:
                    yield entry


def core_caution(pattern: Path = _PATTERN) -> str | None:
    """Say why no core file will be found, where this host sends them elsewhere."""
    try:
        wanted = pattern.read_text().strip()
    except OSError:
        return None
    if not wanted.startswith(("|", "/")):
        return None
    what = "a program" if wanted.startswith("|") else "a directory of its own"
    return (
        f"[debug.coredump] finds nothing: kernel.core_pattern of this host sends core files to "
        f"{what} ({wanted[:80]})"
    )
