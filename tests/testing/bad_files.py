"""Backends that are bad in one way each at copying files and listing them.

All but the fault is the dummy backend. `test_backend_conformance_bites` runs this file.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from agent_backend_dummy.backend import DummyBackend
from corpus import Expectation, suites
from simulation import SimulatedSuite

from agent_core.contracts.backend import (
    FileEntry,
    Presence,
)
from agent_core.contracts.errors import (
    InvalidArgument,
    NotFound,
)
from agent_core.testing.backend_tars import Member, packed, pieces, unpacked

Members = Mapping[str, Member]

# -- files in and out ------------------------------------------------------------------------


class NothingWrong(DummyBackend):
    """The control: nothing fails."""


class _Repacks(DummyBackend):
    """Changes archives on their way."""

    def inward(self, members: Members) -> Members:
        return members

    def outward(self, members: Members, path: str) -> Members:
        return members

    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        data = b"".join([piece async for piece in tar])
        await super().copy_in(name, path, pieces(packed(self.inward(unpacked(data)))))

    async def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        data = b"".join([piece async for piece in super().copy_out(name, path)])
        async for piece in pieces(packed(self.outward(unpacked(data), path))):
            yield piece


class ModesAreForgotten(_Repacks):
    def inward(self, members: Members) -> Members:
        return {
            name: member if member.content is None else Member(0o644, member.content)
            for name, member in members.items()
        }


class EmptyDirectoriesAreLost(_Repacks):
    def inward(self, members: Members) -> Members:
        return {name: m for name, m in members.items() if m.content is not None}


class BytesAreReadAsText(_Repacks):
    def outward(self, members: Members, path: str) -> Members:
        return {
            name: replaced(member, member.content.decode(errors="replace").encode())
            if member.content is not None
            else member
            for name, member in members.items()
        }


class NamesAreWholePaths(_Repacks):
    def outward(self, members: Members, path: str) -> Members:
        above = path.strip("/").rpartition("/")[0]
        return {f"{above}/{name}": member for name, member in members.items()}


class LargeFilesAreCut(_Repacks):
    def outward(self, members: Members, path: str) -> Members:
        return {
            name: member if member.content is None else replaced(member, member.content[: 1 << 20])
            for name, member in members.items()
        }


def replaced(member: Member, content: bytes) -> Member:
    return Member(member.mode, content)


class CopyOutIsOnePiece(DummyBackend):
    async def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        yield b"".join([piece async for piece in super().copy_out(name, path)])


class RelativePathsStartAtTheRoot(DummyBackend):
    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        await super().copy_in(name, f"/{path}", tar)

    async def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        async for piece in super().copy_out(name, f"/{path}"):
            yield piece


class ListsFromTheRoot(DummyBackend):
    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        return await super().list_files(name, f"/{path}")


class BrokenStreamsAreCopies(DummyBackend):
    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        with contextlib.suppress(ConnectionResetError):
            await super().copy_in(name, path, tar)


class _Looks(DummyBackend):
    """Looks whether a container is there."""

    async def there(self, name: str) -> bool:
        return (await self.inspect(name)).presence is Presence.PRESENT


class CopyMakesDirectories(_Looks):
    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        try:
            await super().copy_in(name, path, tar)
        except NotFound:
            members = unpacked(b"".join([piece async for piece in tar]))
            rooted = {f"{path.lstrip('/')}/{each}": member for each, member in members.items()}
            await super().copy_in(name, "/", pieces(packed(rooted)))


class NothingIsAnEmptyArchive(_Looks):
    async def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        try:
            async for piece in super().copy_out(name, path):
                yield piece
        except NotFound:
            if not await self.there(name):
                raise
            yield packed({})


class NothingIsAnEmptyDirectory(_Looks):
    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        try:
            return await super().list_files(name, path)
        except NotFound:
            if not await self.there(name):
                raise
            return []


class AbsentContainersAreEmpty(_Looks):
    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        return await super().list_files(name, path) if await self.there(name) else []


# -- lists -----------------------------------------------------------------------------------


class _Lists(DummyBackend):
    """Lists in a way of its own."""

    def entry(self, entry: FileEntry) -> FileEntry:
        raise NotImplementedError

    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        return [self.entry(entry) for entry in await super().list_files(name, path)]


class DirectoriesAreListedAsFiles(_Lists):
    def entry(self, entry: FileEntry) -> FileEntry:
        return replace(entry, kind="file")


class SizesAreThoseOfBlocks(_Lists):
    def entry(self, entry: FileEntry) -> FileEntry:
        return replace(entry, size=-(-entry.size // 4096) * 4096)


class ModesHaveTheKindInThem(_Lists):
    def entry(self, entry: FileEntry) -> FileEntry:
        kind = stat.S_IFDIR if entry.kind == "directory" else stat.S_IFREG
        return replace(entry, mode=entry.mode | kind)


class ListsWhatIsAboveToo(DummyBackend):
    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        found = await super().list_files(name, path)
        return [FileEntry("..", "directory", 0, 0o755, 0.0), *found]


class FilesAreListedThemselves(DummyBackend):
    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        try:
            return await super().list_files(name, path)
        except InvalidArgument:
            return [FileEntry(path.rpartition("/")[2], "file", 0, 0o644, 0.0)]


# -- what fails ------------------------------------------------------------------------------

_NOT_RAISED = "DID NOT RAISE"

EXPECTED = [
    Expectation(NothingWrong, {}),
    Expectation(
        ModesAreForgotten,
        {
            "files_come_out_as_they_went_in": "er.bin",
            "lists_a_directory": "run.sh",
            "commits_the_files_of_a_container": "er.bin",
        },
    ),
    Expectation(
        EmptyDirectoriesAreLost,
        {
            "files_come_out_as_they_went_in": "box/empty",
            "lists_a_directory": "empty",
            "commits_the_files_of_a_container": "box/empty",
        },
    ),
    Expectation(
        BytesAreReadAsText,
        {
            "files_come_out_as_they_went_in": "er.bin",
            "copies_in_pieces": "hexdigest",
            "commits_the_files_of_a_container": "er.bin",
        },
    ),
    Expectation(
        NamesAreWholePaths,
        {
            "files_come_out_as_they_went_in": "tmp/box",
            "relative_paths_start": "tmp/box/deep/more",
            "copies_in_pieces": "KeyError",
            "commits_the_files_of_a_container": "/box",
        },
    ),
    Expectation(LargeFilesAreCut, {"copies_in_pieces": "hexdigest"}),
    Expectation(CopyOutIsOnePiece, {"copies_in_pieces": "<= 1048576"}),
    Expectation(
        RelativePathsStartAtTheRoot,
        {
            "relative_paths_start": "there is no directory /box/deep",
            "commits_the_files_of_a_container": "there is no /box",
        },
    ),
    Expectation(ListsFromTheRoot, {"relative_paths_start": "there is no directory /box/deep"}),
    Expectation(BrokenStreamsAreCopies, {"tells_of_a_source_that_fails": _NOT_RAISED}),
    Expectation(CopyMakesDirectories, {"has_no_files_where_nothing_is": _NOT_RAISED}),
    Expectation(NothingIsAnEmptyArchive, {"has_no_files_where_nothing_is": _NOT_RAISED}),
    Expectation(NothingIsAnEmptyDirectory, {"has_no_files_where_nothing_is": _NOT_RAISED}),
    Expectation(
        AbsentContainersAreEmpty, {"finds_nothing_in_what_is_not_there[copy]": _NOT_RAISED}
    ),
    Expectation(DirectoriesAreListedAsFiles, {"lists_a_directory": "'file'"}),
    Expectation(SizesAreThoseOfBlocks, {"lists_a_directory": "4096"}),
    Expectation(ModesHaveTheKindInThem, {"lists_a_directory": "mode"}),
    Expectation(ListsWhatIsAboveToo, {"lists_a_directory": "'..'", "relative_paths_start": "'..'"}),
    Expectation(FilesAreListedThemselves, {"lists_a_directory": _NOT_RAISED}),
]


globals().update(suites(SimulatedSuite, EXPECTED))
