"""A real agent with a plugin in a worker: what kills the worker costs no kernel and no agent."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from agent_core.testing.distributions import fake_distribution

PLUGIN = """
import os
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl

class Acme(ComputeDevice):
    info = PluginInfo("device", "acme", slots=(SlotInfo("acme.device", SlotType.COUNT),))
    def open(self, config):
        if os.path.exists(config["broken"]): os.abort()
    def devices(self):
        return [Device(n, "One", (Counter(n, 1),), (Offer("acme.device", Amount(1), {n: 1}),))
                for n in ("a", "b")]
    def describe(self, grants):
        return ContainerEdits(env={"ACME": ",".join(g.device_id for g in grants)})

@hookimpl
def register_device(): return Acme
"""


@pytest.fixture
def broken(node, tmp_path, monkeypatch):
    """A file that, while it is there, makes the plugin crash when it opens."""
    site = tmp_path / "acme-site"
    groups = {"agent_core.device.v1": {"acme": "acme_in_worker.plugin"}}
    fake_distribution(site, "accel-acme", "1.0", groups, {"acme_in_worker/plugin.py": PLUGIN})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    broken = tmp_path / "broken"
    node.configure(f'\n[plugin.acme]\nbroken = "{broken}"\n')
    node.start()
    return broken


def worker_of(node):
    return node.json("plugins", "show", "acme")["worker"]["pid"]


def create(node, code=0):
    slots = ["--slot", "cpu=1", "--slot", "mem=32m", "--slot", "acme.device=1"]
    return node.agentctl("kernels", "create", "--image", "python", *slots, code=code).strip()


def test_a_kernel_outlives_the_worker_of_its_plugin_and_new_ones_wait_for_it(node, broken):
    kernel = create(node)
    first = worker_of(node)
    os.kill(first, signal.SIGKILL)
    assert node.await_line("(accel-acme 1.0) is ready")
    assert worker_of(node) != first

    broken.touch()
    os.kill(worker_of(node), signal.SIGKILL)
    assert node.await_line("is quarantined")
    (slot,) = [row for row in node.json("slots") if row["slot"] == "acme.device"]
    assert slot["state"] == "unknown"
    assert "devices-unknown" in create(node, code=1)
    assert node.json("kernels", "show", kernel)["state"] == "RUNNING"
    assert "plugins reset" in node.agentctl("plugins", "why", "acme")

    broken.unlink()
    assert node.json("plugins", "reset", "acme")["state"] == "ready"
    told = [e for e in node.json("events") if e["name"].startswith("plugin.")]
    # The second death came so soon after the first that only its outcome is told.
    assert [e["name"].removeprefix("plugin.") for e in told] == [
        "down",
        "ready",
        "quarantined",
        "ready",
    ]
    assert all(e["data"]["plugin"] == "acme" and e["id"] for e in told)
    assert "times in" in told[2]["data"]["reason"]
    second = node.create(slots={"cpu": "1", "mem": "32m", "acme.device": "1"})
    assert node.run(second, "import os; print(os.environ['ACME'])")[0].strip() in "ab"
    for each in (kernel, second):
        node.destroy(each)
    assert node.json("leaks") == []


def test_no_worker_is_left_behind_by_an_agent_that_is_killed(node, broken):
    pid = worker_of(node)
    fd = os.pidfd_open(pid)
    try:
        node.end(signal.SIGKILL)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(10_000)
    finally:
        os.close(fd)
    assert not Path(f"/proc/{pid}/exe").exists()
