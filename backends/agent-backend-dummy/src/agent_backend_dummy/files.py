"""The files of simulated containers: tar streams in and out, bounded, and never outside."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agent_backend_dummy.store import Store
from agent_core.contracts.backend import FileEntry
from agent_core.contracts.errors import InvalidArgument, NotFound

BOUND: Final = 16 << 20
"""Bytes of the files of one container."""

WORK: Final = "/home/work"

_STANDING: Final = ("/tmp", "/home/config", "/opt/kernel", "/run/kernel", WORK)  # noqa: S108
_MODE: Final = 0o755
_CHUNK: Final = 64 << 10


class _Node(NamedTuple):
    """What is at one path; a directory has no size."""

    mode: int
    mtime: float
    size: int | None


class Files:
    """The files of one container: what was copied in, and directories that every one has.

    Args:
        store: Where they are kept.
        container: Whose they are.
        cwd: Where relative paths start.
        mounts: Directories that are there as well.
    """

    def __init__(
        self, store: Store, container: str, cwd: str = WORK, mounts: Iterable[str] = ()
    ) -> None:
        self._store = store
        self._container = container
        self._cwd = cwd
        self._standing = (*_STANDING, *map(_plain, (cwd, *mounts)))

    def place(self, path: str) -> str:
        """Make a path absolute and plain; a relative one is of the working directory."""
        return _plain(posixpath.join(self._cwd, path))

    def is_file(self, path: str) -> bool:
        """Whether there is a file, and no directory, at a path."""
        node = self._tree().get(self.place(path))
        return node is not None and node.size is not None

    async def unpack(self, path: str, tar: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream in a directory.

        Raises:
            NotFound: when there is no such directory.
            InvalidArgument: when it is no tar, too large, or has members that lead out of the path
                or would turn a file into a directory or the other way.
        """
        tree, root = self._tree(), self.place(path)
        self._directory(tree, root)
        data = bytearray()
        async for chunk in tar:
            data += chunk
            if len(data) > BOUND:
                raise InvalidArgument(
                    f"more than {BOUND} bytes are too many for a simulated container"
                )
        added = {posixpath.join(root, name): each for name, each in _members(bytes(data)).items()}
        _refuse_mixed(tree, {at: content is None for at, (_, content) in added.items()})
        self._refuse_too_much({at: len(content or b"") for at, (_, content) in added.items()})
        with self._store.together():
            for at, (member, content) in added.items():
                self._store.put_file(self._container, at, member.mode, member.mtime, content)

    def _refuse_too_much(self, added: Mapping[str, int]) -> None:
        sizes = {at: size or 0 for at, _, _, size in self._store.files(self._container)}
        if sum({**sizes, **added}.values()) > BOUND:
            raise InvalidArgument(
                f"a simulated container keeps at most {BOUND} bytes",
                hint="Copy less into it, or into another kernel.",
            )

    async def pack(self, path: str) -> AsyncIterator[bytes]:
        """Yield a path as a tar stream; a directory with all that is below it.

        Raises:
            NotFound: when nothing is there.
        """
        tree, root = self._tree(), self.place(path)
        if root not in tree:
            raise NotFound(f"there is no {root} in container {self._container}")
        above, below = posixpath.dirname(root), _below(root)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for at in sorted(at for at in tree if at == root or at.startswith(below)):
                self._pack(archive, posixpath.relpath(at, above), at, tree[at])
        data = buffer.getvalue()
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]

    def _pack(self, archive: tarfile.TarFile, name: str, at: str, node: _Node) -> None:
        member = tarfile.TarInfo(name)
        member.mode, member.mtime, member.size = node.mode, int(node.mtime), node.size or 0
        if node.size is None:
            member.type = tarfile.DIRTYPE
        content = b"" if node.size is None else self._store.file(self._container, at)
        archive.addfile(member, io.BytesIO(content))

    def entries(self, path: str) -> Sequence[FileEntry]:
        """List a directory.

        Raises:
            NotFound: when nothing is there.
            InvalidArgument: when it is no directory.
        """
        tree, root = self._tree(), self.place(path)
        self._directory(tree, root)
        within = sorted(at for at in tree if at != root and posixpath.dirname(at) == root)
        return [_entry(posixpath.basename(at), tree[at]) for at in within]

    def _directory(self, tree: Mapping[str, _Node], root: str) -> None:
        if root not in tree:
            raise NotFound(
                f"there is no directory {root} in container {self._container}",
                hint="Copy the directory itself to where it is to be.",
            )
        if tree[root].size is not None:
            raise InvalidArgument(f"{root} of container {self._container} is no directory")

    def _tree(self) -> dict[str, _Node]:
        """Everything that is there by its path, the directories above it included."""
        tree = dict.fromkeys(self._standing, _Node(_MODE, 0.0, None))
        for at, mode, mtime, size in self._store.files(self._container):
            tree[at] = _Node(mode, mtime, size)
        for at, node in [*tree.items()]:
            for above in _above(at):
                tree.setdefault(above, _Node(_MODE, node.mtime, None))
        return tree


def _plain(path: str) -> str:
    return posixpath.normpath(path).replace("//", "/", 1)


def _below(root: str) -> str:
    return root.rstrip("/") + "/"


def _entry(name: str, node: _Node) -> FileEntry:
    kind = "directory" if node.size is None else "file"
    return FileEntry(name, kind, node.size or 0, node.mode, node.mtime)


def _members(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes | None]]:
    """Read an archive's files, and its directories, which have no content."""
    found: dict[str, tuple[tarfile.TarInfo, bytes | None]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if name.startswith(("/", "..")) or member.issym() or member.islnk():
                    raise InvalidArgument(f"the archive's member {member.name!r} leads out of it")
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    found[name] = (member, file.read())
                elif member.isdir() and name != ".":
                    found[name] = (member, None)
    except tarfile.TarError as exc:
        raise InvalidArgument(f"what was sent is no tar archive: {exc}") from exc
    return found


def _refuse_mixed(tree: Mapping[str, _Node], added: Mapping[str, bool]) -> None:
    """Refuse what would be a file and a directory; `added` says what are directories."""
    files = {at for at, node in tree.items() if node.size is not None}
    files |= {at for at, is_directory in added.items() if not is_directory}
    for at, is_directory in added.items():
        if not files.isdisjoint(_above(at)):
            raise InvalidArgument(f"{at} would be below what is a file")
        node = tree.get(at)
        if node is not None and (node.size is None) != is_directory:
            raise InvalidArgument(f"{at} is a {'file' if is_directory else 'directory'} already")


def _above(at: str) -> Iterator[str]:
    while at != "/":
        at = posixpath.dirname(at)
        yield at
