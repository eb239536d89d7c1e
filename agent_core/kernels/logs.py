"""What a kernel printed, kept after its container is gone: the tail of its log, for a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

KEPT: Final = 1 << 20
"""Bytes that are kept of one ended kernel's log."""

_CHUNK: Final = 64 << 10


class LogStore:
    """The logs of ended kernels, one file each, in a directory of the agent's state.

    A file lives as long as the kernel's row in the ledger; `forget` removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def collect(self, chunks: AsyncIterator[bytes], kernel_id: str) -> None:
        """Keep the tail of a container's log; call it before the container is removed."""
        tail: deque[bytes] = deque()
        size = 0
        async for chunk in chunks:
            tail.append(chunk)
            size += len(chunk)
            while size - len(tail[0]) >= KEPT:
                size -= len(tail.popleft())
        if tail:
            await asyncio.to_thread(self._write, kernel_id, b"".join(tail)[-KEPT:])

    async def read(self, kernel_id: str) -> AsyncIterator[bytes]:
        """Yield what was kept; nothing when the kernel printed nothing."""
        data = await asyncio.to_thread(self._read, kernel_id)
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]

    async def kernel_ids(self) -> list[str]:
        """List the kernels of which a log is kept."""
        return await asyncio.to_thread(self._kernel_ids)

    async def forget(self, kernel_ids: Iterable[str]) -> None:
        """Remove the logs of kernels that are forgotten."""
        await asyncio.to_thread(self._forget, [*kernel_ids])

    def _path(self, kernel_id: str) -> Path:
        return self._directory / f"{kernel_id}.log"

    def _kernel_ids(self) -> list[str]:
        return sorted(path.stem for path in self._directory.glob("*.log"))

    def _forget(self, kernel_ids: list[str]) -> None:
        for kernel_id in kernel_ids:
            self._path(kernel_id).unlink(missing_ok=True)

    def _write(self, kernel_id: str, data: bytes) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._path(kernel_id).write_bytes(data)

    def _read(self, kernel_id: str) -> bytes:
        path = self._path(kernel_id)
        return path.read_bytes() if path.exists() else b""
