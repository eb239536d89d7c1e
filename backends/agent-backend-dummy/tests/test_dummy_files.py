"""The files of a simulated container: kept whole, bounded together, and those of nobody else."""

import asyncio
import io
import tarfile

import pytest
from agent_backend_dummy.files import BOUND, pack, unpack
from agent_backend_dummy.store import Store

from agent_core.contracts.errors import InvalidArgument

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

    asyncio.run(unpack(store, container, path, chunks()))


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
        return b"".join([chunk async for chunk in pack(store, "a", "/home/work/d")])

    with tarfile.open(fileobj=io.BytesIO(asyncio.run(packed()))) as archive:
        got = {member.name: archive.extractfile(member).read() for member in archive}
    assert got == {"d/x": b"one", "d/y": bytes(range(256))}


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
