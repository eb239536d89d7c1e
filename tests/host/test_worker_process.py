"""How the end of a worker process is told, whoever saw it first."""

import os
import select
import signal

import pytest

from agent_core.host.worker_process import WorkerProcess


@pytest.fixture
def worker():
    process = WorkerProcess("the acme plugin", "acme", ["control"])
    yield process
    process.end()


def test_the_call_in_which_a_worker_died_is_told_also_when_its_end_was_seen_before(worker):
    os.kill(worker.pid, signal.SIGKILL)
    select.select([worker.pidfd], [], [], 10)
    assert worker.end() == "was killed by SIGKILL"
    assert worker.how("in devices()") == "was killed by SIGKILL in devices()"


def test_why_a_worker_was_killed_is_told_and_not_what_it_was_asked_meanwhile(worker):
    worker.kill("it sent nonsense")
    assert worker.end() == "was killed: it sent nonsense"
    assert worker.how("in devices()") == "was killed: it sent nonsense"
