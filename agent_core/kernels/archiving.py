"""Images as files: compressed as they come, and in their place only when they are whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import Final

from agent_core.contracts.errors import InvalidArgument, KernelFailed
from agent_core.failpoints import Effect

PLACE: Final = Effect("archive-place", "an archive of an image takes its place")

SUFFIX: Final = ".tar.gz"
_GZIP: Final = 31
"""zlib's number for the format of gzip with the largest window."""

_LEVEL: Final = 1
"""Layers are mostly compressed files: more effort makes them hardly smaller."""


def archive_path(directory: Path, name: str) -> Path:
    """Find the place of an archive by a caller's name, which stays below the directory.

    Raises:
        InvalidArgument: when it would not.
    """
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts)
    if not name.endswith(SUFFIX) or name.startswith("/") or hidden or "\0" in name:
        raise InvalidArgument(
            f"archive: {name!r} is no name for one",
            hint=f"Write a relative path that ends in {SUFFIX}, such as mine/image{SUFFIX}.",
        )
    return directory.joinpath(*parts)


async def write_archive(tar: AsyncIterator[bytes], path: Path, tell: Callable[[int], None]) -> int:
    """Compress a stream into a file; returns its size. A crash leaves a hidden part at the most.

    Args:
        tar: What is written.
        path: The file.
        tell: Is told how many bytes of the stream have been written.

    Raises:
        KernelFailed: when the file cannot be written, with what to do.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        return await _write(tar, part, path, tell)
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise KernelFailed(
            f"{path} cannot be written: {exc.strerror}",
            hint="Free space there, or name another place as [agent] image-commit-path."
            if full
            else "[agent] image-commit-path is the directory of archives.",
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(part.unlink, missing_ok=True)


async def _write(
    tar: AsyncIterator[bytes], part: Path, path: Path, tell: Callable[[int], None]
) -> int:
    await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    taken = 0
    file = await asyncio.to_thread(part.open, "wb")
    try:
        async for chunk in tar:
            await asyncio.to_thread(lambda data: file.write(squeeze.compress(data)), chunk)
            taken += len(chunk)
            tell(taken)
        await asyncio.to_thread(file.write, squeeze.flush())
        await asyncio.to_thread(os.fsync, file.fileno())
        size = file.tell()
    finally:
        await asyncio.to_thread(file.close)
    with PLACE:
        await asyncio.to_thread(part.replace, path)
    return size
