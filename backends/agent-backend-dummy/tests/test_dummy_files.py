"""The files of a simulated container: kept whole, bounded together, and those of nobody else."""

import asyncio
import io
import tarfile

import pytest
from agent_backend_dummy.files import BOUND, Files
from agent_backend_dummy.images import Images, files_of
from agent_backend_dummy.settings import Settings
from agent_backend_dummy.store import Store

from agent_core.contracts.errors import InvalidArgument, NotFound

HALF = BOUND // 2 - 4096


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def put(store, path, files, container="a"):
    async def chunks():
        yield tar_of(files)

    asyncio.run(Files(store, container).unpack(path, chunks()))


def names(store, container="a"):
    return [row[0] for row in store.files(container)]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def test_what_goes_in_comes_out_as_it_was(store):
    put(store, "/home/work", {"d/x": b"one", "d/y": bytes(range(256))})

    async def packed():
        return b"".join([chunk async for chunk in Files(store, "a").pack("/home/work/d")])

    with tarfile.open(fileobj=io.BytesIO(asyncio.run(packed()))) as archive:
        got = {m.name: m.isfile() and archive.extractfile(m).read() for m in archive}
    assert got == {"d": False, "d/x": b"one", "d/y": bytes(range(256))}


@pytest.mark.parametrize("path", ["/nowhere", "nowhere", "/tmp/nowhere"])
def test_nothing_goes_where_no_directory_is(store, path):
    with pytest.raises(NotFound):
        put(store, path, {"x": b"1"})
    assert names(store) == []


@pytest.mark.parametrize("path", ["/", "/tmp", "/home/work", "/opt", "/data/in/it", "/somewhere"])
def test_a_container_has_the_directories_that_all_have_and_its_own(store, path):
    files = Files(store, "a", "/somewhere", ["/data/in/it/"])
    assert {entry.kind for entry in files.entries(path)} <= {"directory"}
    assert files.place("x") == "/somewhere/x"


@pytest.mark.parametrize(
    ("added", "match"),
    [
        ({"a/b": b""}, "/tmp/a/b would be below what is a file"),
        ({"new": b"", "new/x": b""}, "/tmp/new/x would be below"),
        ({"d": b""}, "/tmp/d is a directory already"),
    ],
)
def test_nothing_is_a_file_and_a_directory(store, added, match):
    put(store, "/tmp", {"a": b"1", "d/x": b"2"})
    with pytest.raises(InvalidArgument, match=match):
        put(store, "/tmp", added)
    with pytest.raises(InvalidArgument, match="no directory"):
        Files(store, "a").entries("/tmp/a")
    assert names(store) == ["/tmp/a", "/tmp/d/x"]


def test_an_image_keeps_the_files_it_was_made_with_until_it_is_purged_or_pulled(store):
    images = Images(Settings(), store)
    put(store, "/tmp", {"x": b"kept"})
    images.commit("a", "mine:1")
    put(store, "/tmp", {"x": b"changed"})
    store.add("b", "me", {}, files_of("mine:1"))
    assert store.file("b", "/tmp/x") == b"kept"
    images.purge("mine:1")
    images.add("mine:1")
    store.add("c", "me", {}, files_of("mine:1"))
    assert names(store, "c") == []


def test_the_bound_is_of_all_that_a_container_has(store):
    put(store, "/", {"one": bytes(HALF)})
    put(store, "/", {"two": bytes(HALF)})
    with pytest.raises(InvalidArgument, match=f"at most {BOUND} bytes"):
        put(store, "/", {"small": b"", "three": bytes(HALF)})
    assert names(store) == ["/one", "/two"]


def test_what_is_replaced_counts_once_and_others_not_at_all(store):
    put(store, "/", {"one": bytes(HALF), "two": bytes(HALF)})
    put(store, "/", {"two": bytes(HALF)})
    put(store, "/", {"one": bytes(HALF)}, container="b")
    assert names(store) == ["/one", "/two"]
    assert names(store, "b") == ["/one"]


def test_a_member_that_leads_out_leaves_nothing_behind(store):
    with pytest.raises(InvalidArgument, match="leads out"):
        put(store, "/home/work", {"fine": b"1", "../../etc/passwd": b"2"})
    assert names(store) == []
