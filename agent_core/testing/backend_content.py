"""The part of the backends' suite that is about what is in containers, and what that becomes.

Files, commands, images and networks are what a backend may lack: each check is skipped where the
backend declares so, and there the call has to refuse.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, Final

import pytest

from agent_core.contracts.backend import ContainerSpec, ContainerState
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import (
    AgentError,
    ImageNotFound,
    InvalidArgument,
    NotFound,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import Support
from agent_core.testing.backend_bench import Bench, at_work
from agent_core.testing.backend_scripts import ContainerScripts
from agent_core.testing.backend_tars import Member, packed, pieces, put, taken, unpacked

_LARGE: Final = 6 << 20
_LARGEST_PIECE: Final = 1 << 20
_NOT_EXECUTED: Final = {126, 127}

_TREE: Final = {
    "box": Member(0o755),
    "box/empty": Member(0o755),
    "box/deep": Member(0o755),
    "box/deep/er.bin": Member(0o640, bytes(range(256)) * 100),
    "box/run.sh": Member(0o750, b"exit 0\n"),
}

_MALFORMED: Final = ("", "UPPER", "two words", "a//b", "../up", "-dash", "tagless:", ":nameless")
"""What no registry takes as the name of an image."""

_Call = Callable[[Bench, str], Awaitable[object]]
_CALLS: Final[Mapping[str, tuple[_Call, ...]]] = {
    "networks": (lambda bench, name: bench.backend.create_network(name),),
    "exec": (lambda bench, name: bench.backend.exec(name, ("/bin/true",)),),
    "copy": (
        lambda bench, name: put(bench.backend, name, ".", _TREE),
        lambda bench, name: taken(bench.backend, name, "."),
        lambda bench, name: bench.backend.list_files(name, "."),
    ),
    "commit": (lambda bench, name: bench.backend.commit(name, name),),
    "images.pull": (lambda bench, name: _all(bench.backend.pull_image(name)),),
    "images.save": (lambda bench, name: _all(bench.backend.save_image(name)),),
}
"""The calls that go with a capability, each about something of a name that nothing has."""


async def _all(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


def _needs(bench: Bench, capability: str) -> None:
    if bench.backend.capabilities().get(capability) is not Support.YES:
        pytest.skip(f"this backend declares that it lacks {capability}")


class ContentChecks(ContainerScripts):
    """What is asked of the optional calls: files, commands, images, networks."""

    image: ClassVar[str]

    @pytest.fixture
    def absent_image(self) -> str:
        """A name that no image has, in reach of the backend's registry if it has one."""
        return "no-such-image-anywhere"

    @pytest.mark.parametrize("capability", _CALLS)
    @at_work
    async def test_refuses_the_optional_calls_it_lacks(self, bench: Bench, capability: str) -> None:
        """What is declared as missing is refused when called, not half done."""
        if bench.backend.capabilities().get(capability) is not Support.NO:
            pytest.skip(f"this backend declares {capability}")
        for call in _CALLS[capability]:
            with pytest.raises(Unsupported):
                await call(bench, bench.name())
        if capability == "networks":
            await bench.backend.remove_network(bench.name())

    @pytest.mark.parametrize("capability", ["exec", "copy", "commit"])
    @at_work
    async def test_finds_nothing_in_what_is_not_there(self, bench: Bench, capability: str) -> None:
        """Commands, files and images of an absent container are an error."""
        _needs(bench, capability)
        for call in _CALLS[capability]:
            with pytest.raises(NotFound):
                await call(bench, bench.name())

    # -- files -------------------------------------------------------------------------------

    @at_work
    async def test_files_come_out_as_they_went_in(self, bench: Bench) -> None:
        """A directory and a file keep their names, bytes and modes, on their way in and out."""
        spec = await self._with_files(bench)
        assert await taken(bench.backend, spec.name, f"{spec.cwd}/box") == _TREE
        single = await taken(bench.backend, spec.name, f"{spec.cwd}/box/deep/er.bin")
        assert single == {"er.bin": _TREE["box/deep/er.bin"]}

    @at_work
    async def test_relative_paths_start_at_the_working_directory(self, bench: Bench) -> None:
        """What is copied to a relative path is found at the absolute one, and the other way."""
        spec = await self._with_files(bench)
        file = Member(0o644, b"relative")
        await put(bench.backend, spec.name, "box/deep", {"more": file})
        assert await taken(bench.backend, spec.name, f"{spec.cwd}/box/deep/more") == {"more": file}
        assert await taken(bench.backend, spec.name, "box/deep/more") == {"more": file}
        found = await bench.backend.list_files(spec.name, "box/deep")
        assert sorted(entry.name for entry in found) == ["er.bin", "more"]

    @at_work
    async def test_copies_in_pieces(self, bench: Bench) -> None:
        """A large file comes out as it went in, and never all of it at once."""
        spec = await self._with_files(bench)
        content = random.Random(_LARGE).randbytes(_LARGE)  # noqa: S311 - anything that is no pattern
        await put(bench.backend, spec.name, spec.cwd, {"large": Member(0o600, content)})
        came = [piece async for piece in bench.backend.copy_out(spec.name, f"{spec.cwd}/large")]
        assert max(map(len, came)) <= _LARGEST_PIECE
        large = unpacked(b"".join(came))["large"].content or b""
        assert hashlib.sha256(large).hexdigest() == hashlib.sha256(content).hexdigest()

    @at_work
    async def test_tells_of_a_source_that_fails(self, bench: Bench) -> None:
        """A stream that breaks off is no copy: its own error is raised, or one that tells of it."""
        spec = await self._with_files(bench)

        async def broken() -> AsyncIterator[bytes]:
            async for piece in pieces(packed(_TREE), 5_000):
                yield piece
                raise ConnectionResetError("whoever sent this has gone")

        with pytest.raises((ConnectionResetError, AgentError)):
            await bench.backend.copy_in(spec.name, spec.cwd, broken())

    @at_work
    async def test_has_no_files_where_nothing_is(self, bench: Bench) -> None:
        """Copying into, copying out of, and listing what is not there is an error."""
        spec = await self._with_files(bench)
        with pytest.raises(NotFound):
            await put(bench.backend, spec.name, f"{spec.cwd}/nowhere", _TREE)
        with pytest.raises(NotFound):
            await taken(bench.backend, spec.name, f"{spec.cwd}/nowhere")
        with pytest.raises(NotFound):
            await bench.backend.list_files(spec.name, f"{spec.cwd}/nowhere")

    @at_work
    async def test_lists_a_directory(self, bench: Bench) -> None:
        """What is in a directory is listed with kind, size and mode; a file is none."""
        spec = await self._with_files(bench)
        found = {e.name: e for e in await bench.backend.list_files(spec.name, f"{spec.cwd}/box")}
        kinds = {name: (entry.kind, entry.mode) for name, entry in found.items()}
        directory = ("directory", 0o755)
        assert kinds == {"empty": directory, "deep": directory, "run.sh": ("file", 0o750)}
        assert found["run.sh"].size == len(_TREE["box/run.sh"].content or b"")
        assert list(await bench.backend.list_files(spec.name, f"{spec.cwd}/box/empty")) == []
        with pytest.raises(InvalidArgument):
            await bench.backend.list_files(spec.name, f"{spec.cwd}/box/run.sh")

    async def _with_files(self, bench: Bench) -> ContainerSpec:
        _needs(bench, "copy")
        spec = await bench.ready(self.argv_sleep())
        await put(bench.backend, spec.name, spec.cwd, _TREE)
        return spec

    # -- commands ----------------------------------------------------------------------------

    @pytest.mark.parametrize("code", [0, 3])
    @at_work
    async def test_exec_tells_the_exit_code(self, bench: Bench, code: int) -> None:
        """The code of a further process is its own, and its end is not that of the container."""
        spec = await self._for_commands(bench)
        status = await bench.backend.exec(spec.name, self.argv_exit(code))
        assert (status.code, status.signal) == (code, None)
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING

    @at_work
    async def test_exec_waits_for_the_end_whatever_is_printed(self, bench: Bench) -> None:
        """A command that prints more than a pipe holds ends, too."""
        spec = await self._for_commands(bench)
        assert (await bench.backend.exec(spec.name, self.argv_flood(8000))).code == 0

    @at_work
    async def test_exec_says_that_a_command_is_not_there(self, bench: Bench) -> None:
        """A command that cannot be started is an error, or ends with 126 or 127 as in a shell."""
        spec = await self._for_commands(bench)
        with suppress(AgentError):
            status = await bench.backend.exec(spec.name, self.argv_missing())
            assert status.code in _NOT_EXECUTED
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING

    @at_work
    async def test_exec_needs_a_container_that_runs(self, bench: Bench) -> None:
        """Nothing is run in a container that was not started, or has ended."""
        _needs(bench, "exec")
        spec = await bench.created(self.argv_exit(0))
        with pytest.raises(WrongState):
            await bench.backend.exec(spec.name, self.argv_exit(0))
        await bench.backend.start(spec.name)
        await bench.ended(spec)
        with pytest.raises(WrongState):
            await bench.backend.exec(spec.name, self.argv_exit(0))

    async def _for_commands(self, bench: Bench) -> ContainerSpec:
        _needs(bench, "exec")
        return await bench.ready(self.argv_sleep())

    # -- images ------------------------------------------------------------------------------

    @at_work
    async def test_commits_a_container_to_an_image(self, bench: Bench) -> None:
        """The image is listed under its name and digest, and containers can be made from it."""
        _needs(bench, "commit")
        spec = await bench.ready(self.argv_sleep())
        async with _image(bench) as name:
            digest = await bench.backend.commit(spec.name, name)
            made = await bench.backend.inspect_image(name)
            assert digest
            assert (made.name, made.digest) == (name, digest)
            assert made in list(await bench.backend.images())
            await bench.ready(self.argv_sleep(), image=name)

    @at_work
    async def test_commits_the_files_of_a_container(self, bench: Bench) -> None:
        """What was copied into a container is in those that are made from its image."""
        spec = await self._with_files(bench)
        _needs(bench, "commit")
        async with _image(bench) as name:
            await bench.backend.commit(spec.name, name)
            again = await bench.ready(self.argv_sleep(), image=name)
            assert await taken(bench.backend, again.name, "box") == _TREE

    @at_work
    async def test_commits_to_no_malformed_name(self, bench: Bench) -> None:
        """What cannot be the name of an image is refused, and there is no image more."""
        _needs(bench, "commit")
        spec = await bench.ready(self.argv_sleep())
        before = list(await bench.backend.images())
        accepted = []
        for name in _MALFORMED:
            with suppress(InvalidArgument):
                await bench.backend.commit(spec.name, name)
                accepted.append(name)
        assert accepted == []
        assert list(await bench.backend.images()) == before

    @at_work
    async def test_pulls_nothing_that_no_registry_has(
        self, bench: Bench, absent_image: str
    ) -> None:
        """An image that nobody has is refused with a hint, and is not listed afterwards."""
        _needs(bench, "images.pull")
        before = list(await bench.backend.images())
        with pytest.raises(ImageNotFound) as refusal:
            await _all(bench.backend.pull_image(absent_image))
        assert refusal.value.hint
        assert list(await bench.backend.images()) == before

    # -- networks ----------------------------------------------------------------------------

    @at_work
    async def test_makes_and_removes_a_network_twice(self, bench: Bench) -> None:
        """Making a network that is there and removing one that is not succeed."""
        _needs(bench, "networks")
        name = bench.name()
        await bench.backend.create_network(name)
        try:
            await bench.backend.create_network(name)
            edits = ContainerEdits(networks=(name,))
            spec = await bench.ready(self.argv_sleep(), edits=edits)
            await bench.backend.remove(spec.name)
        finally:
            await bench.backend.remove_network(name)
        await bench.backend.remove_network(name)


@asynccontextmanager
async def _image(bench: Bench) -> AsyncIterator[str]:
    """Choose the name of an image, and remove what has it afterwards with its containers."""
    name = f"{bench.name()}:1"
    try:
        yield name
    finally:
        for seen in await bench.backend.list(bench.owner):
            await bench.backend.remove(seen.name)
        with suppress(Unsupported):
            await bench.backend.remove_image(name)
