"""Files in and out of real containers, hostile archives, and commits."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest

from agent_core.contracts.edits import ContainerEdits, Mount
from agent_core.contracts.errors import (
    AgentError,
    InvalidArgument,
    KernelFailed,
    NotFound,
    WrongState,
)
from agent_core.testing.backend_bench import at_work

pytestmark = pytest.mark.requires("docker")

STAY = ("/bin/sh", "-c", "echo ready-to-go; sleep 600")


def tar_of(*entries):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content, options in entries:
            entry = tarfile.TarInfo(name)
            for key, value in options.items():
                setattr(entry, key, value)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


async def stream(data):
    for at in range(0, len(data), 10_000):
        yield data[at : at + 10_000]


async def unpacked(backend, name, path):
    data = b"".join([chunk async for chunk in backend.copy_out(name, path)])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


@at_work
async def test_files_go_in_and_come_out_as_they_are(bench):
    spec = await bench.ready(STAY)
    content = bytes(range(256)) * 1000
    await bench.backend.copy_in(spec.name, "/tmp", stream(tar_of(("a/b.bin", content, {}))))
    assert await unpacked(bench.backend, spec.name, "a/b.bin") == {"b.bin": content}
    entries = {e.name: e for e in await bench.backend.list_files(spec.name, "/tmp/a")}
    assert (entries["b.bin"].kind, entries["b.bin"].size) == ("file", len(content))


@at_work
async def test_no_archive_writes_outside_of_its_container(bench, tmp_path):
    target = tmp_path / "outside"
    hostile = tar_of(
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": str(tmp_path)}),
        ("link/outside", b"x", {}),
        (f"{'../' * 12}{str(target)[1:]}", b"x", {}),
    )
    spec = await bench.ready(STAY)
    with contextlib.suppress(AgentError):
        await bench.backend.copy_in(spec.name, "/tmp", stream(hostile))
    assert not target.exists()
    assert not (tmp_path / "link").exists()


@at_work
async def test_a_list_follows_links_within_the_container_only(bench):
    spec = await bench.ready(
        ("/bin/sh", "-c", "ln -s / /tmp/up; ln -s /etc /tmp/etc; echo ready-to-go; sleep 600")
    )
    names = {entry.name for entry in await bench.backend.list_files(spec.name, "/tmp/up/tmp")}
    assert names == {"up", "etc"}
    within = {entry.name for entry in await bench.backend.list_files(spec.name, "/tmp/etc")}
    assert "passwd" in within
    assert "debian_version" not in within


@at_work
async def test_what_is_wrong_with_a_path_is_told(bench, tmp_path):
    edits = ContainerEdits(mounts=(Mount(str(tmp_path), "/opt/ro"),))
    spec = await bench.ready(STAY, edits=edits)
    data = tar_of(("a", b"1", {}))
    with pytest.raises(WrongState, match="read-only"):
        await bench.backend.copy_in(spec.name, "/opt/ro", stream(data))
    with pytest.raises(NotFound):
        await bench.backend.copy_in(spec.name, "/nowhere", stream(data))
    with pytest.raises(NotFound):
        await unpacked(bench.backend, spec.name, "/nowhere")
    with pytest.raises(NotFound):
        await bench.backend.list_files(spec.name, "/nowhere")
    with pytest.raises(InvalidArgument):
        await bench.backend.list_files(spec.name, "/etc/passwd")
    with pytest.raises((InvalidArgument, KernelFailed)):
        await bench.backend.copy_in(spec.name, "/tmp", stream(b"this is no tar" * 100))
    with pytest.raises(NotFound):
        await bench.backend.copy_in("no-such-container", "/tmp", stream(data))


@at_work
async def test_a_source_that_fails_is_told_by_its_own_error(bench):
    async def failing():
        yield tar_of(("a", b"1", {}))[:500]
        raise ConnectionResetError("the client has gone")

    spec = await bench.ready(STAY)
    with pytest.raises((ConnectionResetError, AgentError)):
        await bench.backend.copy_in(spec.name, "/tmp", failing())


@at_work
async def test_a_container_becomes_an_image_that_is_nobodys(bench, engine):
    spec = await bench.ready(("/bin/sh", "-c", "echo kept > /tmp/x; echo ready-to-go; sleep 600"))
    made = await bench.backend.commit(spec.name, "committed:1")
    assert made.startswith("sha256:")
    text = engine.docker("run", "--rm", "--entrypoint", "/bin/cat", "committed:1", "/tmp/x")
    assert text == "kept"
    again = await bench.created(STAY, image="committed:1")
    listed = [seen.name for seen in await bench.backend.list(bench.owner)]
    assert sorted(listed) == sorted([spec.name, again.name])
    with pytest.raises(InvalidArgument):
        await bench.backend.commit(spec.name, "UPPER")
    with pytest.raises(NotFound):
        await bench.backend.commit("no-such-container", "committed:2")
    await bench.backend.remove(again.name)
    await bench.backend.remove_image("committed:1")
