"""Tar streams as the backends' suite sends and reads them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from agent_core.contracts.backend import ContainerBackend


class Member(NamedTuple):
    """One member of an archive; a directory has no content."""

    mode: int
    content: bytes | None = None


def packed(members: Mapping[str, Member]) -> bytes:
    """Pack members into an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, member in members.items():
            entry = tarfile.TarInfo(name)
            entry.mode = member.mode
            entry.type = tarfile.DIRTYPE if member.content is None else tarfile.REGTYPE
            entry.size = len(member.content or b"")
            archive.addfile(entry, io.BytesIO(member.content or b""))
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, Member]:
    """Read an archive's members by name."""
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isfile() else None
            content = None if file is None else file.read()
            members[entry.name.removeprefix("./")] = Member(entry.mode & 0o7777, content)
    return members


async def pieces(data: bytes, size: int = 10_007) -> AsyncIterator[bytes]:
    """Yield data in pieces that end where no block of a tar does."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(
    backend: ContainerBackend, name: str, path: str, members: Mapping[str, Member]
) -> None:
    """Copy members into a container."""
    await backend.copy_in(name, path, pieces(packed(members)))


async def taken(backend: ContainerBackend, name: str, path: str) -> dict[str, Member]:
    """Copy a path out of a container."""
    return unpacked(b"".join([piece async for piece in backend.copy_out(name, path)]))
