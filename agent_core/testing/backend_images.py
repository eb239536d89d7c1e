"""The part of the backends' suite that is about images: committed, pulled and saved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, Final

import pytest

from agent_core.contracts.errors import ImageNotFound, InvalidArgument, Unsupported
from agent_core.testing.backend_bench import Bench, at_work, every, needs
from agent_core.testing.backend_files import LARGEST_PIECE, TREE, FileChecks
from agent_core.testing.backend_tars import taken, unpacked

_MALFORMED: Final = ("", "UPPER", "two words", "a//b", "../up", "-dash", "tagless:", ":nameless")
"""What no registry takes as the name of an image."""

_MANIFESTS: Final = {"manifest.json", "index.json"}
"""What an engine reads of an archive first: Docker's own, and OCI's."""


class ImageChecks(FileChecks):
    """What is asked of a backend that makes, fetches and writes images."""

    image: ClassVar[str]

    @pytest.fixture
    def absent_image(self) -> str:
        """A name that no image has, in reach of the backend's registry if it has one."""
        return "no-such-image-anywhere"

    @at_work
    async def test_commits_a_container_to_an_image(self, bench: Bench) -> None:
        """The image is listed under its name and digest, and containers can be made from it."""
        needs(bench, "commit")
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
        spec = await self.with_files(bench)
        needs(bench, "commit")
        async with _image(bench) as name:
            await bench.backend.commit(spec.name, name)
            again = await bench.ready(self.argv_sleep(), image=name)
            assert await taken(bench.backend, again.name, "box") == TREE

    @at_work
    async def test_commits_to_no_malformed_name(self, bench: Bench) -> None:
        """What cannot be the name of an image is refused, and there is no image more."""
        needs(bench, "commit")
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
        needs(bench, "images.pull")
        before = list(await bench.backend.images())
        with pytest.raises(ImageNotFound) as refusal:
            await every(bench.backend.pull_image(absent_image))
        assert refusal.value.hint
        assert list(await bench.backend.images()) == before

    @at_work
    async def test_saves_an_image(self, bench: Bench) -> None:
        """An image comes as an archive with a manifest, in pieces; an unknown one is refused."""
        needs(bench, "images.save")
        came = [piece async for piece in bench.backend.save_image(self.image)]
        assert max(map(len, came)) <= LARGEST_PIECE
        assert _MANIFESTS & unpacked(b"".join(came)).keys()
        with pytest.raises(ImageNotFound):
            await every(bench.backend.save_image("no-such-image-anywhere"))


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
