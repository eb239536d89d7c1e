"""The parts of the backend that need no process: logs, launch files, events, cgroups, images."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest
from agent_backend_process import cgroups, processes
from agent_backend_process.backend import ProcessBackend
from agent_backend_process.cgroups import CgroupTree, Hierarchy, hierarchies
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.ending import wait_for
from agent_backend_process.images import Interpreters
from agent_backend_process.journal import Journal
from agent_backend_process.launch import Launch
from agent_backend_process.logring import LogRing
from agent_backend_process.logs import LogReader
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import ImageNotFound, InvalidConfig, PluginDisabled

SAFE = st.binary(max_size=20).map(lambda b: b.replace(b"\0", b""))


@given(
    argv=st.lists(SAFE),
    env=st.lists(SAFE),
    cwd=SAFE,
    limit=st.integers(0, 1 << 40),
    numbers=st.lists(st.integers(0, 9999)),
    rlimits=st.dictionaries(st.integers(0, 15), st.integers(-1, 1 << 62)),
)
def test_a_launch_file_is_read_as_it_was_written(argv, env, cwd, limit, numbers, rlimits):
    launch = Launch()
    launch.argv, launch.env, launch.cwd, launch.log_limit = argv, env, cwd, limit
    launch.cpus = launch.groups = numbers
    launch.cgroups, launch.rlimits = argv, rlimits
    again = Launch.decode(launch.encode())
    assert all(getattr(again, name) == getattr(launch, name) for name in Launch.__slots__)


def test_a_foreign_launch_file_is_refused():
    with pytest.raises(ValueError, match="unknown item"):
        Launch.decode(b"z=1\0")


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.integers(0, 400)), limit=st.integers(0, 300))
def test_a_log_keeps_its_beginning_and_its_end(tmp_path_factory, chunks, limit):
    directory = ContainerDirectory(tmp_path_factory.mktemp("c"))
    ring = LogRing(directory.file("log"), limit)
    whole = bytes(index % 251 for index in range(sum(chunks)))
    rest = whole
    for size in chunks:
        ring.write(rest[:size])
        rest = rest[size:]
    ring.close()
    reader = LogReader(directory, limit)
    kept = b"".join(iter(lambda: reader.read(reader.end()) or b"", b""))
    on_disk = sum(f.stat().st_size for f in (directory.path / "log").glob("*"))
    assert on_disk <= limit
    if b"bytes of output dropped" in kept:
        head, _, tail = kept.partition(b"\n[...")
        dropped, _, tail = tail.partition(b" bytes of output dropped ...]\n")
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + int(dropped) + len(tail) == len(whole)
        assert len(tail) >= limit // 4
    elif limit >= 4:
        assert kept == whole


def test_a_reader_goes_on_where_the_log_was_cut_under_it(tmp_path):
    directory = ContainerDirectory(tmp_path)
    ring, reader = LogRing(directory.file("log"), 40), LogReader(directory, 40)
    ring.write(b"0123456789abcde")
    assert reader.read(reader.end()) == b"0123456789"
    ring.write(b"." * 60)
    assert b"[... 40 bytes of output dropped ...]" in reader.read(reader.end())
    ring.close()


def listen(journal, cursor, count):
    async def collect():
        found = []
        async for event in journal.read(cursor):
            found.append(event)
            if len(found) == count:
                break
        return found

    return collect()


def test_events_are_told_once_for_each_kind_and_resumed_after_a_cursor():
    async def check():
        journal = Journal(7)
        for name in "ab":
            journal.publish("started", name)
        journal.publish("started", "a")
        journal.publish("exited", "a", ExitStatus(0))
        told = await listen(journal, "elsewhere.9", 3)
        assert [(e.kind, e.name) for e in told] == [
            ("started", "a"),
            ("started", "b"),
            ("exited", "a"),
        ]
        assert sorted(e.cursor for e in told) == [e.cursor for e in told]
        assert await listen(journal, told[1].cursor, 1) == told[2:]
        late = asyncio.create_task(listen(journal, None, 1))
        await asyncio.sleep(0)
        journal.publish("exited", "b", ExitStatus(1))
        assert [(e.kind, e.name) for e in await late] == [("exited", "b")]
        journal.close()
        assert len(await listen(journal, None, 1)) == 0

    asyncio.run(check())


def test_events_of_removed_containers_are_bounded():
    async def check():
        journal = Journal(1)
        for number in range(3000):
            journal.publish("started", str(number))
            journal.forget(str(number))
        journal.publish("started", "last")
        journal.close()
        told = await listen(journal, "0", 10_000)
        assert told[-1].name == "last"
        assert len(told) == 1025

    asyncio.run(check())


V1 = """\
5:memory:/agents/a
4:cpu,cpuacct:/
3:pids:/agents/a
1:name=systemd:/x
0::/y
"""
V1_MOUNTS = """\
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 /agents /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 25 0:28 /elsewhere /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/uni\\040fied rw shared:9 - cgroup2 cgroup2 rw
34 25 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""


def test_finds_the_agents_own_groups():
    assert list(hierarchies(V1, V1_MOUNTS)) == [
        Hierarchy(("cpuacct",), "/sys/fs/cgroup/cpu,cpuacct", 1),
        Hierarchy(("memory",), "/sys/fs/cgroup/memory/a", 1),
        Hierarchy((), "/sys/fs/cgroup/uni fied/y", 2),
    ]


def test_a_v1_group_is_killed_after_forks_are_barred(tmp_path):
    group = tmp_path / "c-x"
    (group / "below").mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as one, subprocess.Popen(["sleep", "600"]) as two:
        (group / "cgroup.procs").write_text(f"{one.pid}\n")
        (group / "below" / "cgroup.procs").write_text(f"{two.pid}\n")
        (group / "pids.max").write_text("max")
        assert len(processes.group_members(str(group))) == 2
        processes.kill_group(str(group))
        assert (one.wait(), two.wait()) == (-9, -9)
    assert (group / "pids.max").read_text() == "0ax"  # a plain file is not cut, unlike the real
    assert processes.group_members(str(tmp_path / "gone")) == []


def test_removing_groups_tells_which_are_busy(tmp_path):
    (tmp_path / "a" / "below").mkdir(parents=True)
    assert cgroups.remove((str(tmp_path / "a"), str(tmp_path / "gone"))) == []
    assert not (tmp_path / "a").exists()


def test_a_process_is_its_pid_and_its_start_time():
    with subprocess.Popen(["sleep", "600"]) as child:
        start = processes.start_time(child.pid)
        assert processes.is_alive((child.pid, start))
        assert not processes.send((child.pid, start + 1), signal.SIGKILL)
        assert child.poll() is None
        assert processes.send((child.pid, start), signal.SIGKILL)
        child.wait()
        assert not processes.send((child.pid, start), signal.SIGKILL)


def test_descendants_are_found_with_and_without_the_kernels_lists():
    script = "sleep 600 & sh -c 'sleep 600; true' & echo; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as tree:
        tree.stdout.readline()
        while len(found := processes.descendants(tree.pid)) < 3:
            pass
        children = {pid for pid, _ in found if pid in processes._children_by_scan(tree.pid)}
        assert len(children) == 2
        processes.kill_trees([tree.pid], [(tree.pid, processes.start_time(tree.pid))])
        assert tree.wait() == -9
        for one in found:
            wait_for(one, 10)
        assert not [one for one in found if processes.is_alive(one)]


def test_demanded_cgroups_that_are_not_permitted_disable_the_backend(tmp_path, monkeypatch):
    monkeypatch.setattr(CgroupTree, "open", classmethod(lambda _cls, _name: CgroupTree(())))

    async def check():
        backend = ProcessBackend()
        backend.open({"kill": "cgroup"})
        with pytest.raises(PluginDisabled) as refusal:
            await backend.start_up("o", str(tmp_path))
        assert refusal.value.hint
        await backend.shut_down()

    asyncio.run(check())


def test_interpreters_are_found_configured_and_suggested(tmp_path, monkeypatch):
    script, program = tmp_path / "python3.99", tmp_path / "python3.98"
    script.write_text("#!/bin/sh\n")
    program.write_bytes(b"\x7fELF")
    for path in (script, program):
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin:/no/such")
    found = Interpreters({"julia": "/bin/sh", "np": {"path": str(program), "type": "python"}})
    images = {image.name: image for image in found.images()}
    assert {"python", "sh", "python3.98", "julia", "np"} <= set(images)
    assert "python3.99" not in images
    assert images["python"].labels["ai.backend.runtime-path"] == sys.executable
    kinds = {name: images[name].labels["ai.backend.runtime-type"] for name in ("np", "julia")}
    assert kinds == {"np": "python", "julia": "shell"}
    assert images["np"].digest == images["python3.98"].digest != images["sh"].digest
    for name, suggestion in (("pyton", "python"), ("python:3.12", "python"), ("julai", "julia")):
        with pytest.raises(ImageNotFound) as refusal:
            found.find(name)
        assert f"Did you mean '{suggestion}'?" in refusal.value.hint


def test_all_faults_of_configured_images_are_told_at_once():
    with pytest.raises(InvalidConfig) as refusal:
        Interpreters({"a": "/no/such", "b:1": "/bin/sh", "c": "sh"})
    assert len(refusal.value.details["faults"]) == 3
