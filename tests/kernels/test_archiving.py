"""Archives of images: whole or not there, below their directory, and told of while they grow."""

from __future__ import annotations

import asyncio
import errno
import gzip
from types import SimpleNamespace

import pytest

from agent_core.contracts.errors import DeadlineExceeded, InvalidArgument, KernelFailed
from agent_core.kernels.archiving import archive_path, write_archive
from agent_core.kernels.content import ContentService
from agent_core.wire.content import CommitState

from .fakes import FakeBackend, Script


async def stream(*chunks, failure=None):
    for chunk in chunks:
        yield chunk
    if failure is not None:
        raise failure


def written(path, *chunks, **options):
    told = []
    size = asyncio.run(write_archive(stream(*chunks, **options), path, told.append))
    return size, told


def test_an_archive_holds_what_came_and_its_size_is_told(tmp_path):
    path = tmp_path / "a" / "image.tar.gz"
    size, told = written(path, b"one" * 1000, b"two" * 1000)
    assert gzip.decompress(path.read_bytes()) == b"one" * 1000 + b"two" * 1000
    assert size == path.stat().st_size
    assert told == [3000, 6000]
    assert [each.name for each in path.parent.iterdir()] == ["image.tar.gz"]


def test_an_archive_that_fails_leaves_the_one_that_was_there(tmp_path):
    path = tmp_path / "image.tar.gz"
    written(path, b"old")
    with pytest.raises(RuntimeError):
        written(path, b"new", failure=RuntimeError("the engine has gone"))
    assert gzip.decompress(path.read_bytes()) == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["image.tar.gz"]


def test_a_place_that_cannot_be_written_is_told_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelFailed, match="cannot be written") as refused:
        written(tmp_path / "file" / "image.tar.gz", b"x")
    assert "image-commit-path" in str(refused.value.hint)
    with pytest.raises(KernelFailed) as full:
        written(tmp_path / "i.tar.gz", b"x", failure=OSError(errno.ENOSPC, "No space left"))
    assert "Free space" in str(full.value.hint)


def test_names_stay_below_the_directory(tmp_path):
    assert archive_path(tmp_path, "a/b.tar.gz") == tmp_path / "a" / "b.tar.gz"


@pytest.mark.parametrize(
    "name", ["/etc/x.tar.gz", "../x.tar.gz", "a/../../x.tar.gz", "x.tar", ".x.tar.gz", "a\0.tar.gz"]
)
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(InvalidArgument):
        archive_path(tmp_path, name)


class Silent(FakeBackend):
    """Begins an image and says nothing more."""

    async def save_image(self, name):
        yield b"begun"
        await asyncio.Event().wait()


def test_an_archive_that_takes_too_long_is_given_up_with_words(tmp_path):
    async def body():
        settings = SimpleNamespace(commit_timeout=0.05, call_timeout=60.0)
        services = SimpleNamespace(settings=settings, backend=Silent(Script()))
        content = ContentService(services, None)
        content._commits["k"] = CommitState(kernel_id="k", status="ongoing")
        with pytest.raises(DeadlineExceeded, match="the image is made") as late:
            await content._archive("k", "image:1", tmp_path / "image.tar.gz")
        assert "commit-timeout" in str(late.value.hint)
        assert content._commits["k"].written == len(b"begun")

    asyncio.run(body())
    assert [*tmp_path.iterdir()] == []
