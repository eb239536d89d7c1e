"""What becomes of each edit: applied, or refused before anything is taken."""

# A test shares its loop with nobody, so that it may look at files directly.
# ruff: noqa: ASYNC240

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from agent_backend_process import admission

from agent_core.contracts.backend import ContainerSpec, Presence
from agent_core.contracts.edits import (
    ConfigFile,
    ContainerEdits,
    Cpuset,
    DeviceNode,
    DeviceRequest,
    Hook,
    Mount,
    Permission,
)
from agent_core.contracts.errors import ImageNotFound, InvalidSpec, Unsupported
from agent_core.testing.backend_bench import at_work

STAYS = ("/bin/sh", "-c", "echo ready-to-go; sleep 600; true")


def spec_of(tmp_path, **edits):
    argv, cwd = ("/bin/sh",), str(tmp_path)
    return ContainerSpec("c", "o", "sh", argv, {}, cwd, edits=ContainerEdits(**edits))


REFUSED = {
    "a mount elsewhere": {"mounts": (Mount("/etc", "/other"),)},
    "a mount of nothing": {"mounts": (Mount("/no/such", "/no/such"),)},
    "a device node elsewhere": {"device_nodes": (DeviceNode("/dev/a0", "/dev/null"),)},
    "a file of the host": {"files": (ConfigFile("/etc/acme.conf", b""),)},
    "networks": {"networks": ("n",)},
    "hooks": {"hooks": (Hook("createRuntime", "/bin/true"),)},
    "CDI names": {"cdi_names": ("acme.com/one=0",)},
    "device requests": {"device_requests": (DeviceRequest("acme", ("0",)),)},
    "an unknown rlimit": {"rlimits": {"nonsense": 1}},
    "an unknown group": {"groups": ("no-such-group-here",)},
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_what_a_process_cannot_have(tmp_path, what):
    with pytest.raises(Unsupported) as refusal:
        admission.check(spec_of(tmp_path, **REFUSED[what]))
    assert len(refusal.value.details["faults"]) == 1
    assert refusal.value.hint


def test_names_every_refusal_at_once(tmp_path):
    edits = {}
    for refused in REFUSED.values():
        for key, value in refused.items():
            merged = {**edits.get(key, {}), **value} if isinstance(value, dict) else None
            edits[key] = merged or (*edits.get(key, ()), *value)
    with pytest.raises(Unsupported) as refusal:
        admission.check(spec_of(tmp_path, **edits))
    assert len(refusal.value.details["faults"]) == len(REFUSED)


def test_a_file_does_not_leave_the_working_directory_through_a_link(tmp_path):
    (tmp_path / "way-out").symlink_to("/etc")
    for path in (tmp_path / "way-out" / "x", tmp_path / ".." / "x"):
        with pytest.raises(Unsupported):
            admission.check(spec_of(tmp_path, files=(ConfigFile(str(path), b""),)))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"},
        {"name": ".."},
        {"argv": ()},
        {"argv": ("sh",)},
        {"cwd": "here"},
        {"env": {"A=B": ""}},
        {"env": {"A": "x\0y"}},
    ],
)
def test_refuses_a_malformed_spec(tmp_path, change):
    with pytest.raises(InvalidSpec):
        admission.check(replace(spec_of(tmp_path), **change))


@pytest.mark.parametrize(
    ("value", "limit", "above"), [(5, 4, 1), (4, 4, 0), (-1, 4, 1), (-1, -1, 0)]
)
def test_minus_one_is_the_highest_limit(value, limit, above):
    assert admission.exceeds(value, limit) is bool(above)


@at_work
async def test_nothing_is_taken_for_what_is_refused(bench):
    groups = bench.backend._tree.groups("c")
    file = ConfigFile(f"{bench.setting.cwd}/acme.conf", b"x")
    refused = bench.spec(STAYS, edits=ContainerEdits(files=(file,), networks=("n",)))
    with pytest.raises(Unsupported):
        await bench.backend.create(replace(refused, name="c"))
    with pytest.raises(ImageNotFound):
        await bench.backend.create(bench.spec(STAYS, image="cobol"))
    assert not Path(file.path).exists()
    assert not any(Path(path).exists() for path in groups.directories)
    assert list((bench.setting.state_dir / "containers").iterdir()) == []


@at_work
async def test_applies_what_a_process_can_have(bench):
    core = min(os.sched_getaffinity(0))
    folder = Path(bench.setting.cwd, "shared")
    folder.mkdir()
    edits = ContainerEdits(
        env={"ACME": "1"},
        path_env={"LD_LIBRARY_PATH": ("/opt/acme/lib",)},
        preload=("/no/such/libacme.so",),
        device_nodes=(DeviceNode("/dev/null", "/dev/null"),),
        mounts=(Mount(str(folder), str(folder), Permission.RW),),
        files=(
            ConfigFile(f"{bench.setting.cwd}/acme.conf", b"one"),
            ConfigFile(f"{folder}/acme.sh", b"two", 0o755),
        ),
        rlimits={"nofile": 99, "core": 0},
        limits={"memory": 1 << 20},
        cpuset=Cpuset((core,), (0,)),
        syscalls=("mbind",),
    )
    env = {"ACME": "1", "LD_LIBRARY_PATH": "/opt/acme/lib:/lib", "LD_PRELOAD": "/no/such/own.so"}
    spec = await bench.ready(STAYS, env=env, edits=edits)
    pid = (await bench.backend.handles(spec.name)).init_pid
    assert os.sched_getaffinity(pid) == {core}
    assert "Max open files            99                   99" in _read(pid, "limits")
    assert "LD_PRELOAD=/no/such/libacme.so:/no/such/own.so\0" in _read(pid, "environ")
    assert Path(folder, "acme.sh").stat().st_mode & 0o777 == 0o755
    assert list(await bench.backend.verify(spec.name, edits)) == []
    await bench.backend.remove(spec.name)
    assert list(folder.iterdir()) == []


@at_work
async def test_names_every_difference(bench):
    core = min(os.sched_getaffinity(0))
    file = ConfigFile(f"{bench.setting.cwd}/acme.conf", b"one")
    spec = await bench.ready(STAYS, edits=ContainerEdits(files=(file,)))
    promised = ContainerEdits(
        env={"ACME": "1"},
        path_env={"PATH": ("/opt/acme/bin",)},
        preload=("/opt/acme/lib.so",),
        rlimits={"nofile": 77},
        cpuset=Cpuset((core, 4095)),
        files=(replace(file, content=b"two"), ConfigFile("/no/such/file", b"")),
        mounts=(Mount("/no/such", "/no/such"),),
    )
    found = list(await bench.backend.verify(spec.name, promised))
    assert len(found) == 8
    assert (await bench.inspect(spec)).presence is Presence.PRESENT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root adds groups")
@at_work
async def test_root_adds_groups(bench):
    spec = await bench.ready(STAYS, edits=ContainerEdits(groups=("12345",)))
    pid = (await bench.backend.handles(spec.name)).init_pid
    line = next(x for x in _read(pid, "status").splitlines() if x.startswith("Groups"))
    assert "12345" in line.split()


def _read(pid, name):
    return Path(f"/proc/{pid}/{name}").read_text()
