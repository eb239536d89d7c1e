"""The part of the backends' suite that is about files: copied in, copied out, and listed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from typing import Final

import pytest

from agent_core.contracts.backend import ContainerSpec
from agent_core.contracts.errors import AgentError, InvalidArgument, NotFound
from agent_core.testing.backend_bench import Bench, at_work, needs
from agent_core.testing.backend_scripts import ContainerScripts
from agent_core.testing.backend_tars import Member, packed, pieces, put, taken, unpacked

LARGEST_PIECE: Final = 1 << 20
"""The most bytes of one piece of a stream."""

TREE: Final = {
    "box": Member(0o755),
    "box/empty": Member(0o755),
    "box/deep": Member(0o755),
    "box/deep/er.bin": Member(0o640, bytes(range(256)) * 100),
    "box/run.sh": Member(0o750, b"exit 0\n"),
}
"""What is copied into containers: a file, a program, and directories full and empty."""

_LARGE: Final = 6 << 20


class FileChecks(ContainerScripts):
    """What is asked of a backend that copies files."""

    @at_work
    async def test_files_come_out_as_they_went_in(self, bench: Bench) -> None:
        """A directory and a file keep their names, bytes and modes, on their way in and out."""
        spec = await self.with_files(bench)
        assert await taken(bench.backend, spec.name, f"{spec.cwd}/box") == TREE
        single = await taken(bench.backend, spec.name, f"{spec.cwd}/box/deep/er.bin")
        assert single == {"er.bin": TREE["box/deep/er.bin"]}

    @at_work
    async def test_relative_paths_start_at_the_working_directory(self, bench: Bench) -> None:
        """What is copied to a relative path is found at the absolute one, and the other way."""
        spec = await self.with_files(bench)
        file = Member(0o644, b"relative")
        await put(bench.backend, spec.name, "box/deep", {"more": file})
        assert await taken(bench.backend, spec.name, f"{spec.cwd}/box/deep/more") == {"more": file}
        assert await taken(bench.backend, spec.name, "box/deep/more") == {"more": file}
        found = await bench.backend.list_files(spec.name, "box/deep")
        assert sorted(entry.name for entry in found) == ["er.bin", "more"]

    @at_work
    async def test_copies_in_pieces(self, bench: Bench) -> None:
        """A large file comes out as it went in, and never all of it at once."""
        spec = await self.with_files(bench)
        content = random.Random(_LARGE).randbytes(_LARGE)  # noqa: S311 - anything that is no pattern
        await put(bench.backend, spec.name, spec.cwd, {"large": Member(0o600, content)})
        came = [piece async for piece in bench.backend.copy_out(spec.name, f"{spec.cwd}/large")]
        assert max(map(len, came)) <= LARGEST_PIECE
        large = unpacked(b"".join(came))["large"].content or b""
        assert hashlib.sha256(large).hexdigest() == hashlib.sha256(content).hexdigest()

    @at_work
    async def test_tells_of_a_source_that_fails(self, bench: Bench) -> None:
        """A stream that breaks off is no copy: its own error is raised, or one that tells of it."""
        spec = await self.with_files(bench)

        async def broken() -> AsyncIterator[bytes]:
            async for piece in pieces(packed(TREE), 5_000):
                yield piece
                raise ConnectionResetError("whoever sent this has gone")

        with pytest.raises((ConnectionResetError, AgentError)):
            await bench.backend.copy_in(spec.name, spec.cwd, broken())

    @at_work
    async def test_has_no_files_where_nothing_is(self, bench: Bench) -> None:
        """Copying into, copying out of, and listing what is not there is an error."""
        spec = await self.with_files(bench)
        with pytest.raises(NotFound):
            await put(bench.backend, spec.name, f"{spec.cwd}/nowhere", TREE)
        with pytest.raises(NotFound):
            await taken(bench.backend, spec.name, f"{spec.cwd}/nowhere")
        with pytest.raises(NotFound):
            await bench.backend.list_files(spec.name, f"{spec.cwd}/nowhere")

    @at_work
    async def test_lists_a_directory(self, bench: Bench) -> None:
        """What is in a directory is listed with kind, size and mode; a file is none."""
        spec = await self.with_files(bench)
        found = {e.name: e for e in await bench.backend.list_files(spec.name, f"{spec.cwd}/box")}
        kinds = {name: (entry.kind, entry.mode) for name, entry in found.items()}
        directory = ("directory", 0o755)
        assert kinds == {"empty": directory, "deep": directory, "run.sh": ("file", 0o750)}
        assert found["run.sh"].size == len(TREE["box/run.sh"].content or b"")
        assert list(await bench.backend.list_files(spec.name, f"{spec.cwd}/box/empty")) == []
        with pytest.raises(InvalidArgument):
            await bench.backend.list_files(spec.name, f"{spec.cwd}/box/run.sh")

    async def with_files(self, bench: Bench) -> ContainerSpec:
        """Start a container and copy the tree into its working directory."""
        needs(bench, "copy")
        spec = await bench.ready(self.argv_sleep())
        await put(bench.backend, spec.name, spec.cwd, TREE)
        return spec
