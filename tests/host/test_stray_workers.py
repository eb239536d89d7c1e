"""Workers that nobody keeps are found among the agent's children, and no other process is."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent_core.contracts.errors import WrongState
from agent_core.host.stray_workers import StrayWorkers
from agent_core.host.worker_process import BOOT, WorkerProcess


@pytest.fixture
def worker():
    process = WorkerProcess("the acme plugin", "acme", ["control"])
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
        pass  # for a moment after its start a process has no command line
    yield process
    process.end()


def found(kept=()):
    return {stray.pid: stray for stray in StrayWorkers(lambda: kept).find()}


def test_a_worker_is_a_stray_exactly_when_nobody_keeps_it(worker):
    assert found()[worker.pid].plugin == "acme"
    assert worker.pid not in found([worker.pid])


def test_a_stray_is_killed_and_a_second_time_is_fine(worker):
    stray = found()[worker.pid]
    StrayWorkers().end(stray.key)
    assert worker.pid not in found()
    StrayWorkers().end(stray.key)


def test_what_is_kept_meanwhile_or_is_another_process_by_now_is_left(worker):
    stray = found()[worker.pid]
    with pytest.raises(WrongState, match="is kept"):
        StrayWorkers(lambda: [worker.pid]).end(stray.key)
    StrayWorkers().end(f"{worker.pid}@{stray.started - 1}")
    assert worker.pid in found()


def test_children_that_are_no_workers_of_this_agent_are_none():
    wait = "import sys; sys.stdin.read()"
    others = [[wait], [wait, BOOT, "path", "1", "acme"], [wait, BOOT]]
    commands = [[sys.executable, "-c", *words] for words in others]
    children = [subprocess.Popen(c, stdin=subprocess.PIPE) for c in commands]
    try:
        assert not found().keys() & {child.pid for child in children}
    finally:
        for child in children:
            child.communicate()
