"""The shim outlives the agent, and containers outlive the loss of their shim."""

# A test shares its loop with nobody, so that it may look at files and processes directly.
# ruff: noqa: ASYNC110, ASYNC220, ASYNC240

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from agent_backend_process import keeper, processes
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.launching import hear, spawn

from agent_core.contracts.backend import ContainerSpec, ContainerState
from agent_core.contracts.edits import Cpuset
from agent_core.contracts.errors import KernelFailed
from agent_core.testing.backend_bench import at_work, living, marked
from agent_core.testing.backend_scripts import ContainerScripts

SCRIPTS = ContainerScripts()
STAYS = ("/bin/sh", "-c", "echo ready-to-go; sleep 600; true")


def directory_of(setting, spec):
    return ContainerDirectory(setting.state_dir / "containers" / spec.name)


def identity_of(bench, spec):
    found = directory_of(bench.setting, spec).identity()
    assert found is not None
    return found


async def lose_shim(bench, spec):
    shim = identity_of(bench, spec).shim
    assert processes.send(shim, signal.SIGKILL)
    while processes.is_alive(shim):
        await asyncio.sleep(0.005)


@at_work
async def test_a_container_without_its_shim_still_runs_and_can_be_killed_whole(bench):
    spec = await bench.ready(SCRIPTS.argv_daemons())
    pids = await bench.processes(spec, at_least=4)
    await lose_shim(bench, spec)
    assert (await bench.inspect(spec)).state is ContainerState.RUNNING
    assert set((await bench.backend.handles(spec.name)).pids) >= {identity_of(bench, spec).main[0]}
    await bench.backend.kill(spec.name)
    assert not living(pids)
    seen = await bench.inspect(spec)
    assert seen.state is ContainerState.EXITED
    assert (seen.exit.code, seen.exit.observed) == (None, False)


@at_work
async def test_a_container_without_its_shim_is_asked_before_it_is_killed(bench):
    spec = await bench.ready(SCRIPTS.argv_sleep())
    main = identity_of(bench, spec).main
    await lose_shim(bench, spec)
    async with asyncio.timeout(10):
        await bench.backend.stop(spec.name, grace=60)
    assert not processes.is_alive(main)


@at_work
async def test_the_end_of_a_container_without_its_shim_is_told_and_ends_all(bench):
    mark = "CONFORMANCE=" + os.urandom(8).hex()
    key, _, value = mark.partition("=")
    spec = await bench.ready(SCRIPTS.argv_daemons(), env={key: value})
    async with bench.events(None) as told:
        await lose_shim(bench, spec)
        main = identity_of(bench, spec).main
        async with asyncio.timeout(10):
            while not bench.backend._keeper._watch.watches(spec.name):
                await asyncio.sleep(0.005)
        assert processes.send(main, signal.SIGKILL)
        event = await told(spec)
    assert (event.kind, event.exit.observed) == ("exited", False)
    assert not marked(mark)


@at_work
async def test_another_process_with_the_same_pid_is_never_taken_for_the_main_process(bench):
    with subprocess.Popen(["sleep", "600"]) as stranger:
        spec = await bench.ready(STAYS)
        directory = directory_of(bench.setting, spec)
        path = Path(directory.file("identity.json"))
        whole = path.read_text()
        identity = directory.identity()
        path.write_text(json.dumps({**json.loads(whole), "main": [stranger.pid, 1]}))
        await lose_shim(bench, spec)
        try:
            await bench.backend.kill(spec.name)
            await bench.backend.remove(spec.name)
            assert stranger.poll() is None
            assert not processes.is_alive(identity.main)
        finally:
            stranger.kill()


@at_work
async def test_identities_of_another_boot_mean_nothing(bench):
    spec = await bench.ready(STAYS)
    path = Path(directory_of(bench.setting, spec).file("identity.json"))
    whole = path.read_text()
    before = identity_of(bench, spec)
    path.write_text(json.dumps({**json.loads(whole), "boot_id": "another"}))
    seen = await bench.inspect(spec)
    if bench.backend.kill_method == "process-tree":
        assert seen.state is ContainerState.EXITED
        assert (seen.exit.code, seen.exit.observed) == (None, False)
    assert processes.is_alive(before.main)
    path.write_text(whole)
    assert (await bench.inspect(spec)).state is ContainerState.RUNNING


@at_work
async def test_a_shim_that_does_not_obey_is_killed_with_its_container(bench):
    spec = await bench.ready(SCRIPTS.argv_daemons())
    pids = await bench.processes(spec, at_least=4)
    assert processes.send(identity_of(bench, spec).shim, signal.SIGSTOP)
    patience, keeper._PATIENCE = keeper._PATIENCE, 0.3
    try:
        await bench.backend.kill(spec.name)
    finally:
        keeper._PATIENCE = patience
    assert not living(pids)
    assert (await bench.inspect(spec)).exit.observed is False


@at_work
async def test_a_container_that_keeps_forking_is_killed_whole(bench):
    mark = "CONFORMANCE=" + os.urandom(8).hex()
    key, _, value = mark.partition("=")
    fork = "i=0; while [ $i -lt 200 ]; do setsid sleep 600 & i=$((i+1)); done"
    spec = await bench.ready(("/bin/sh", "-c", f"echo ready-to-go; {fork}; wait"), env={key: value})
    await bench.processes(spec, at_least=20)
    await bench.backend.kill(spec.name)
    assert not marked(mark)
    assert (await bench.inspect(spec)).exit.code == 137


def reap(launched):
    with contextlib.suppress(ChildProcessError):  # the backend may have reaped it
        os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
    os.close(launched.pidfd)


@at_work
async def test_a_shim_starts_a_container_once(bench):
    spec = await bench.created(STAYS)
    directory = directory_of(bench.setting, spec)
    launched = [spawn(directory), spawn(directory)]
    answers = sorted([(await hear(one, 10)).partition(" ")[0] for one in launched])
    assert answers in (["busy", "ok"], ["ok", "over"])
    late = spawn(directory)
    assert await hear(late, 10) in {"busy", "over"}
    await bench.backend.kill(spec.name)
    for one in (*launched, late):
        reap(one)


@at_work
async def test_a_start_that_an_earlier_agent_began_is_waited_for(bench):
    spec = await bench.created(STAYS)
    launched = spawn(directory_of(bench.setting, spec))
    await bench.backend.start(spec.name)
    assert (await bench.inspect(spec)).state is ContainerState.RUNNING
    os.close(launched.answer)
    await bench.backend.kill(spec.name)
    reap(launched)


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"argv": ("/no/such/program",)}, "exec"),
        ({"argv": ("/dev/null",)}, "exec"),
        ({"cwd": "/no/such/directory"}, "cwd"),
        ({"edits": "cpuset"}, "cpuset"),
    ],
)
@at_work
async def test_a_failed_start_names_its_step(bench, change, stage):
    spec = bench.spec(STAYS)
    edits = replace(spec.edits, cpuset=Cpuset((0, 4095)))
    spec = replace(spec, **({"edits": edits} if change == {"edits": "cpuset"} else change))
    await bench.backend.create(spec)
    with pytest.raises(KernelFailed) as failure:
        await bench.backend.start(spec.name)
    assert failure.value.details["stage"] == stage
    assert failure.value.hint
    seen = await bench.ended(spec)
    assert (seen.state, seen.exit.code) == (ContainerState.EXITED, 127)


@at_work
async def test_the_main_process_inherits_nothing_of_the_agent(bench):
    held, other = os.pipe()
    os.set_inheritable(other, True)
    # As a shell leaves it for what it starts in the background.
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        spec = await bench.ready(STAYS, env={"ONLY": "this"})
        main, shim = identity_of(bench, spec).main[0], identity_of(bench, spec).shim[0]
        assert set(_descriptors(main)) == {"0", "1", "2"}
        assert _descriptors(main)["0"] == "/dev/null"
        assert os.getsid(main) == main
        assert os.getsid(shim) == shim
        pipe = _descriptors(os.getpid())[str(other)]
        assert pipe not in _descriptors(shim).values()
        environ = Path(f"/proc/{main}/environ").read_bytes().decode().split("\0")
        keys = {item.partition("=")[0] for item in environ if item}
        keys -= {"PWD", "OLDPWD", "SHLVL", "_"}  # the shell's own
        assert keys == {"PATH", "ONLY", "AGENT_CONTAINER", "AGENT_CONTAINER_DIR"}
        status = Path(f"/proc/{main}/status").read_text()
        ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
        assert int(ignored.split()[1], 16) & 0x7FFF_FFFF == 0  # above are the C library's own
    finally:
        signal.signal(signal.SIGQUIT, before)
        os.close(held)
        os.close(other)


def _descriptors(pid):
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the directory itself
            found[path.name] = str(path.readlink())
    return found


@at_work
async def test_nothing_is_left_in_the_agent_after_many_containers(bench):
    async def one():
        spec = await bench.started(SCRIPTS.argv_exit(0))
        await bench.ended(spec)
        await bench.backend.remove(spec.name)

    await one()
    before = len(_descriptors(os.getpid()))
    await asyncio.gather(*(one() for _ in range(12)))
    assert len(_descriptors(os.getpid())) == before
    assert list((bench.setting.state_dir / "containers").iterdir()) == []
    assert not bench.backend._keeper._tasks


AGENT = """
import asyncio, sys
from pathlib import Path
from agent_backend_process.backend import ProcessBackend
from agent_core.contracts.backend import ContainerSpec

async def main(state, kill, name):
    backend = ProcessBackend()
    backend.open({"kill": kill})
    await backend.start_up("doomed", state)
    script = "trap 'exit 9' TERM; sleep 600 & wait"
    env = {"PATH": "/usr/bin:/bin"}
    await backend.create(ContainerSpec(name, "doomed", "sh", ("/bin/sh", "-c", script), env, "/"))
    await backend.start(name)
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


def test_containers_survive_the_death_of_their_agent(setting, kill):
    name = "survivor-" + os.urandom(4).hex()
    command = [sys.executable, "-c", AGENT, str(setting.state_dir), kill, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout.readline() == "started\n"
        finally:
            agent.kill()
    spec = ContainerSpec(name, "doomed", "sh", ("/bin/sh",), {}, "/")

    async def check(bench):
        bench.owner = "doomed"
        identity = identity_of(bench, spec)
        assert processes.is_alive(identity.shim)
        assert processes.is_alive(identity.main)
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING
        await bench.backend.stop(name, grace=10)
        seen = await bench.inspect(spec)
        assert (seen.exit.code, seen.exit.observed) == (9, True)

    setting.run(check)


@at_work
async def test_a_container_that_cannot_be_made_out_is_unknown_and_left_alone(bench):
    spec = await bench.ready(STAYS)
    path = Path(directory_of(bench.setting, spec).file("spec.json"))
    whole = path.read_text()
    path.write_text(whole[:20])
    seen = await bench.inspect(spec)
    assert seen.presence == "unknown"
    assert seen.reason
    assert [s.presence for s in await bench.backend.list(bench.owner)] == ["unknown"]
    with pytest.raises(Exception, match="cannot be made out"):
        await bench.backend.remove(spec.name)
    assert processes.is_alive(identity_of(bench, spec).main)
    path.write_text(whole)


@at_work
async def test_the_output_on_disk_never_exceeds_its_limit(bench):
    flood = "yes 0123456789 | head -c 3000000; echo the-end"
    spec = await bench.started(("/bin/sh", "-c", f"echo the-beginning; {flood}"), log_limit=40_000)
    await bench.ended(spec)
    files = list(Path(directory_of(bench.setting, spec).file("log")).iterdir())
    assert sum(file.stat().st_size for file in files) <= 40_000
    text = await bench.text(spec)
    assert text.startswith("the-beginning\n")
    assert text.endswith("the-end\n")
    assert "bytes of output dropped" in text


@at_work
async def test_what_a_crash_left_half_made_is_cleared_at_the_next_start(bench):
    containers = bench.setting.state_dir / "containers"
    (containers / ".half.new").mkdir()
    spec = await bench.created(STAYS)
    stray = [Path(f"{p.directory}/c-stray") for p in bench.backend._tree._parents]
    for path in stray:
        path.mkdir()
    await bench.backend.shut_down()
    bench.backend = await bench.opened()
    assert not (containers / ".half.new").exists()
    assert not any(path.exists() for path in stray)
    assert (await bench.inspect(spec)).state is ContainerState.CREATED


@at_work
async def test_processes_whose_directory_is_gone_are_still_their_container_and_can_be_removed(
    bench,
):
    spec = await bench.ready(SCRIPTS.argv_daemons())
    pids = await bench.processes(spec, at_least=4)
    directory_of(bench.setting, spec).path.rename(bench.setting.state_dir / "aside")
    await bench.backend.shut_down()
    bench.backend = await bench.opened()

    seen = await bench.inspect(spec)
    assert (seen.presence, seen.state, seen.owner) == ("present", "running", bench.owner)
    assert "its directory is gone" in seen.reason
    assert [s.name for s in await bench.backend.list(bench.owner)] == [spec.name]
    await bench.backend.remove(spec.name)
    assert not living(pids)
    assert (await bench.inspect(spec)).presence == "absent"
    assert await bench.backend.list(bench.owner) == []


@at_work
async def test_what_was_removed_in_good_order_is_not_sought_again(bench, monkeypatch):
    spec = await bench.ready(STAYS)
    await bench.backend.remove(spec.name)
    monkeypatch.setattr(processes, "marked", lambda _: pytest.fail("all processes were read"))
    assert (await bench.inspect(spec)).presence == "absent"
