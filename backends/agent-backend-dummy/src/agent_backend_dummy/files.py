"""The files of simulated containers: tar streams in and out, bounded, and never outside."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import AsyncIterator
from typing import Final

from agent_backend_dummy.store import Store
from agent_core.contracts.backend import FileEntry
from agent_core.contracts.errors import InvalidArgument, NotFound

BOUND: Final = 16 << 20
"""Bytes of the files of one container."""

WORK: Final = "/home/work"

_CHUNK: Final = 64 << 10


def place(path: str) -> str:
    """Make a path of a container absolute and plain; a relative one is of its work directory."""
    return posixpath.normpath(posixpath.join(WORK, path)).replace("//", "/", 1)


async def unpack(store: Store, container: str, path: str, tar: AsyncIterator[bytes]) -> None:
    """Unpack a tar stream at a path.

    Raises:
        InvalidArgument: when it is no tar, too large, or has members that lead out of the path.
    """
    data = bytearray()
    async for chunk in tar:
        data += chunk
        if len(data) > BOUND:
            raise InvalidArgument(f"more than {BOUND} bytes are too many for a simulated container")
    members = _members(bytes(data))
    places = [place(posixpath.join(path, name)) for name, _, _ in members]
    sizes = (len(content) for _, _, content in members)
    _refuse_too_much(store, container, dict(zip(places, sizes, strict=True)))
    with store.together():
        for at, (_, member, content) in zip(places, members, strict=True):
            store.put_file(container, at, member.mode, member.mtime, content)


def _refuse_too_much(store: Store, container: str, added: dict[str, int]) -> None:
    sizes = {name: size for name, _, _, size in store.files(container)} | added
    if sum(sizes.values()) > BOUND:
        raise InvalidArgument(
            f"a simulated container keeps at most {BOUND} bytes",
            hint="Copy less into it, or into another kernel.",
        )


def _members(data: bytes) -> list[tuple[str, tarfile.TarInfo, bytes]]:
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if name.startswith(("/", "..")) or member.issym() or member.islnk():
                    raise InvalidArgument(f"the archive's member {member.name!r} leads out of it")
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    found.append((name, member, file.read()))
    except tarfile.TarError as exc:
        raise InvalidArgument(f"what was sent is no tar archive: {exc}") from exc
    return found


async def pack(store: Store, container: str, path: str) -> AsyncIterator[bytes]:
    """Yield a path as a tar stream; a directory with all that is below it.

    Raises:
        NotFound: when nothing is there.
    """
    root = place(path)
    below = root.rstrip("/") + "/"
    wanted = [row for row in store.files(container) if row[0] == root or row[0].startswith(below)]
    if not wanted:
        raise NotFound(f"there is no {root} in container {container}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode, mtime, size in wanted:
            member = tarfile.TarInfo(posixpath.relpath(name, posixpath.dirname(root) or "/"))
            member.mode, member.mtime, member.size = mode, int(mtime), size
            archive.addfile(member, io.BytesIO(store.file(container, name)))
    data = buffer.getvalue()
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def entries(store: Store, container: str, path: str) -> list[FileEntry]:
    """List a directory; one that nothing was put into is only there at its top.

    Raises:
        NotFound: when nothing is there.
    """
    root = place(path)
    below = root.rstrip("/") + "/"
    found: dict[str, FileEntry] = {}
    for name, mode, mtime, size in store.files(container):
        if not name.startswith(below):
            continue
        first, _, rest = name.removeprefix(below).partition("/")
        kind = "directory" if rest else "file"
        found[first] = FileEntry(first, kind, 0 if rest else size, 0o755 if rest else mode, mtime)
    if not found and root not in ("/", "/home", "/home/work"):
        raise NotFound(f"there is no directory {root} in container {container}")
    return [found[name] for name in sorted(found)]
