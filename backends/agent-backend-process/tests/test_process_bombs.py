"""Code that forks without end: bounded by its own cgroup, and ended whole."""

# A test shares its loop with nobody, so that it may look at files and processes directly.
# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from agent_backend_process.backend import ProcessBackend
from agent_backend_process.declaration import PIDS_LIMIT

from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import PluginDisabled
from agent_core.contracts.info import Support
from agent_core.testing.backend_bench import Setting, at_work, living, start_time

BOUND = 24
BOMB = """
import os, time
print("ready-to-go", flush=True)
while not os.path.exists("detonate"): time.sleep(0.01)
while True:
    try: os.fork()
    except OSError: time.sleep(0.05)
"""


@pytest.fixture(params=[{}])
def setting(request, tmp_path):
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return Setting(ProcessBackend, request.param, tmp_path / "state", "sh", env, str(tmp_path))


def bounded(bench):
    """Skip where nothing bounds processes: a bomb must never go off there."""
    if bench.backend.capabilities()["limits.pids"] is not Support.YES:
        pytest.skip("this machine lets the agent make no cgroup with a pids controller")


def group_of(handles):
    group = handles.cgroups.get("pids") or handles.cgroups["unified"]
    return Path(group)


@at_work
async def test_a_fork_bomb_is_bounded_and_ended_whole(bench):
    bounded(bench)
    edits = ContainerEdits(limits={"pids": BOUND})
    spec = await bench.ready((sys.executable, "-c", BOMB), edits=edits)
    group = group_of(await bench.backend.handles(spec.name))
    assert (group / "pids.max").read_text() == f"{BOUND}\n"  # before it goes off
    Path(bench.setting.cwd, "detonate").touch()
    while int((group / "pids.current").read_text()) < BOUND:
        await asyncio.sleep(0.01)
    pids = {pid: start_time(pid) for pid in (await bench.backend.handles(spec.name)).pids}
    assert 1 < len(pids) <= BOUND
    await bench.backend.kill(spec.name)
    assert not living(pids)
    await bench.backend.remove(spec.name)
    assert not group.exists()


@at_work
async def test_every_container_has_a_bound_and_verifying_reads_it(bench):
    bounded(bench)
    spec = await bench.ready(("/bin/sh", "-c", "echo ready-to-go; sleep 600"))
    group = group_of(await bench.backend.handles(spec.name))
    assert int((group / "pids.max").read_text()) == PIDS_LIMIT
    assert list(await bench.backend.verify(spec.name, ContainerEdits())) == []
    promised = ContainerEdits(limits={"pids": 7})
    assert list(await bench.backend.verify(spec.name, promised)) == [
        f"limit pids: promised 7, is {PIDS_LIMIT}"
    ]


@pytest.mark.parametrize("setting", [{"pids-limit": 100}, {"pids-limit": 0}], indirect=True)
@at_work
async def test_the_bound_is_configured(bench):
    bounded(bench)
    spec = await bench.ready(("/bin/sh", "-c", "echo ready-to-go; sleep 600"))
    group = group_of(await bench.backend.handles(spec.name))
    configured = bench.setting.config["pids-limit"]
    assert (group / "pids.max").read_text().strip() == (str(configured) if configured else "max")
    assert (f"{configured} processes" in bench.backend.facts()["limits"]) is bool(configured)


async def _start_without_cgroups(tmp_path):
    backend = ProcessBackend()
    backend.open({"kill": "process-tree", "pids-limit": 100})
    try:
        await backend.start_up("o", str(tmp_path))
    finally:
        await backend.shut_down()


def test_a_bound_that_nothing_can_keep_is_refused(tmp_path):
    with pytest.raises(PluginDisabled, match="processes can be bounded"):
        asyncio.run(_start_without_cgroups(tmp_path))
