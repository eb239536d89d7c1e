"""What a real container has of what it was promised, and what becomes of it."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent_core.contracts.backend import ContainerState, Presence, PublishedPort
from agent_core.contracts.edits import ContainerEdits, Cpuset, DeviceNode, Mount, Permission
from agent_core.contracts.errors import AgentError, ImageNotFound, KernelFailed, NotFound
from agent_core.testing.backend_bench import at_work

pytestmark = pytest.mark.requires("docker")

STAY = ("/bin/sh", "-c", "trap 'exit 7' TERM; echo ready-to-go; sleep 600 & wait")
MIB = 1 << 20


def shell(script):
    return ("/bin/sh", "-c", script)


async def said(bench, script, **changes):
    """Run a script to its end and return what it printed."""
    spec = await bench.started(shell(script), **changes)
    await bench.ended(spec)
    return (await bench.text(spec)).split()


@at_work
async def test_all_that_was_allocated_is_there_and_is_verified(bench, tmp_path):
    edits = ContainerEdits(
        env={"ACME": "1"},
        path_env={"LD_LIBRARY_PATH": ("/a",)},
        device_nodes=(DeviceNode("/dev/acme0", "/dev/zero", "rw"),),
        mounts=(Mount(str(tmp_path), "/opt/data"), Mount("/usr", "/opt/rw", Permission.RW)),
        groups=("4321",),
        rlimits={"nofile": 100},
        limits={"cpus": 500, "memory": 64 * MIB, "pids": 50},
        cpuset=Cpuset((0,), (0,)),
        labels={"a": "b"},
    )
    env = {"ACME": "1", "LD_LIBRARY_PATH": "/a:/image"}
    spec = await bench.ready(STAY, edits=edits, env=env)
    assert list(await bench.backend.verify(spec.name, edits)) == []
    others = ContainerEdits(
        env={"ACME": "2"},
        path_env={"LD_LIBRARY_PATH": ("/b",)},
        device_nodes=(DeviceNode("/dev/acme0", "/dev/null"), DeviceNode("/dev/x", "/dev/null")),
        mounts=(Mount("/", "/opt/data", Permission.RW), Mount("/", "/opt/other")),
        groups=("77",),
        rlimits={"nofile": 99},
        limits={"cpus": 600, "memory": 65 * MIB, "pids": 51},
        cpuset=Cpuset((1,), (7,)),
        labels={"a": "c"},
    )
    differences = await bench.backend.verify(spec.name, others)
    assert len(differences) == 14, differences


@at_work
async def test_a_kernel_runs_as_the_user_of_its_specification_without_any_right(bench):
    words = await said(bench, "id -u; id -g; grep CapEff /proc/self/status", user="1000:1001")
    assert words == ["1000", "1001", "CapEff:", "0" * 16]


@at_work
async def test_root_in_a_container_keeps_few_rights_and_gains_none(bench):
    script = "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; mknod /tmp/x c 1 3 2>&1"
    words = " ".join(await said(bench, script))
    assert "NoNewPrivs: 1" in words
    assert "Seccomp: 2" in words
    assert "Operation not permitted" in words or "not found" in words
    bounding = int(words.split("CapBnd: ")[1].split()[0], 16)
    assert bounding.bit_count() == 8


@at_work
async def test_ports_are_published_where_they_were_promised(bench, engine):
    port = PublishedPort("web", "http", 8080, 31999, "127.0.0.1")
    script = "echo ready-to-go; echo hello | nc -l -p 8080"
    spec = await bench.ready(shell(script), ports=(port,))
    probe = "import socket; print(socket.create_connection(('127.0.0.1', 31999), 5).recv(99))"
    done = engine.run_inside("python3", "-c", probe)
    assert b"hello" in done.stdout, done.stderr
    await bench.backend.remove(spec.name)


@at_work
async def test_a_port_that_is_taken_is_told_and_leaves_nothing_behind(bench):
    port = PublishedPort("web", "http", 8080, 31998, "127.0.0.1")
    first = await bench.ready(STAY, ports=(port,))
    second = await bench.created(STAY, ports=(port,))
    with pytest.raises(KernelFailed, match="31998"):
        await bench.backend.start(second.name)
    assert (await bench.inspect(second)).state is ContainerState.CREATED
    await bench.backend.remove(second.name)
    await bench.backend.remove(first.name)


@at_work
async def test_a_mount_that_is_not_there_is_an_error_and_is_not_created(bench, tmp_path):
    missing = tmp_path / "missing"
    edits = ContainerEdits(mounts=(Mount(str(missing), "/opt/data"),))
    with pytest.raises(AgentError, match="does not exist"):
        await bench.created(STAY, edits=edits)
    assert not missing.exists()


@at_work
async def test_an_image_that_is_not_there_is_told_with_what_to_do(bench):
    with pytest.raises(ImageNotFound) as refused:
        await bench.created(STAY, image="nowhere:1")
    assert "images pull nowhere:1" in str(refused.value.hint)


@at_work
async def test_too_much_memory_ends_a_kernel_as_oom(bench):
    edits = ContainerEdits(limits={"memory": 16 * MIB})
    async with bench.events(None) as told:
        spec = await bench.started(shell("dd if=/dev/zero of=/dev/null bs=200M"), edits=edits)
        await told(spec)
        event = await told(spec)
    assert event.exit is not None
    assert (event.exit.code, event.exit.oom) == (137, True)
    seen = await bench.inspect(spec)
    assert seen.exit is not None
    assert seen.exit.oom


@at_work
async def test_a_bomb_of_processes_meets_its_bound_and_dies_with_its_kernel(bench):
    edits = ContainerEdits(limits={"pids": 20, "memory": 64 * MIB})
    script = "echo ready-to-go; (while :; do sleep 600 & done) 2>/dev/null & exec sleep 600"
    spec = await bench.ready(shell(script), edits=edits)
    pids = await bench.processes(spec, at_least=10)
    assert len(pids) <= 20
    await bench.backend.remove(spec.name)
    assert (await bench.inspect(spec)).presence is Presence.ABSENT


@at_work
async def test_what_was_removed_by_hand_is_absent_and_its_end_is_told(bench, engine):
    async with bench.events(None) as told:
        spec = await bench.ready(STAY)
        assert (await told(spec)).kind == "started"
        engine.docker("rm", "--force", spec.name)
        event = await told(spec)
    assert (event.kind, event.exit and event.exit.code) == ("exited", 137)
    assert (await bench.inspect(spec)).presence is Presence.ABSENT


@at_work
async def test_another_container_whose_id_begins_like_a_name_is_not_taken_for_it(bench):
    spec = await bench.ready(STAY)
    handles = await bench.backend.handles(spec.name)
    assert handles.init_pid
    shown = await bench.backend._containers.shown(spec.name)
    assert (await bench.backend.inspect(shown["Id"][:12])).presence is Presence.ABSENT


@at_work
async def test_many_at_once_all_start_and_all_end(bench):
    specs = [bench.spec(STAY) for _ in range(20)]

    async def life(spec):
        await bench.backend.create(spec)
        await bench.backend.start(spec.name)
        await bench.backend.remove(spec.name)

    await asyncio.gather(*map(life, specs))
    assert list(await bench.backend.list(bench.owner)) == []


@at_work
async def test_logs_are_kept_by_the_driver_and_bounded(bench, engine):
    spec = await bench.created(STAY, log_limit=1 * MIB)
    config = json.loads(engine.docker("inspect", "--format", "{{json .HostConfig}}", spec.name))
    assert config["LogConfig"]["Type"] == "local"
    assert int(config["LogConfig"]["Config"]["max-size"]) * 4 == MIB


@pytest.mark.parametrize(
    "options", [{"block-io": {"/dev/zero": {"read-bps": 1000}}, "init": True, "pids-limit": 33}]
)
@at_work
async def test_what_is_configured_for_all_kernels_holds_for_each(bench, engine, options):
    spec = await bench.created(STAY)
    config = json.loads(engine.docker("inspect", "--format", "{{json .HostConfig}}", spec.name))
    assert config["BlkioDeviceReadBps"] == [{"Path": "/dev/zero", "Rate": 1000}]
    assert config["Init"] is True
    assert config["PidsLimit"] == 33


@at_work
async def test_a_further_process_runs_to_its_end(bench):
    spec = await bench.ready(STAY)
    assert (await bench.backend.exec(spec.name, shell("exit 3"))).code == 3
    assert (await bench.backend.exec(spec.name, ("/no/such/program",))).code in {126, 127}
    with pytest.raises(NotFound):
        await bench.backend.exec("no-such-container", shell("true"))
