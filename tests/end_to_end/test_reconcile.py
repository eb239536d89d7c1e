"""The ledger against the world on a real node: strangers, leaks, kernels killed from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from agent_core.contracts.errors import InsufficientResource

from .conftest import EXAMPLES

QUICK = """
[agent.sync-container-lifecycles]
interval = "100ms"
[kernel-lifecycles]
stranger-policy = "{policy}"
stranger-grace = "{grace}"
"""
DEADLINE = 30.0


def container(node, kernel):
    return node.state / "backend" / "containers" / f"{node.agent}.{kernel}.1.main.0"


def forget(node, kernel):
    """Let the ledger of a node that is stopped forget a kernel."""
    with sqlite3.connect(node.state / "ledger.db") as db:
        for table in ("outbox", "holds", "kernels"):
            db.execute(f"DELETE FROM {table} WHERE kernel_id = ?", [kernel])
    db.close()


def kill(node, kernel):
    """Kill all processes of a kernel, the shim first, so that it can tell nothing of the others."""
    mark = f"AGENT_CONTAINER_DIR={container(node, kernel)}".encode()
    identity = json.loads((container(node, kernel) / "identity.json").read_text())
    marked = [p for p in node.processes() if mark in Path(f"/proc/{p}/environ").read_bytes()]
    for pid in dict.fromkeys([identity["shim"][0], identity["main"][0], *marked]):
        with contextlib.suppress(ProcessLookupError):  # it went with another
            os.kill(pid, signal.SIGKILL)


def verdicts(found):
    return {row.kind: row.verdict for row in found.actions}


def reconcile_until(node, wanted):
    """Ask for rounds until one says what is wanted; the answers are the clock."""
    deadline = time.monotonic() + DEADLINE
    while not wanted(found := node.ask("reconcile")):
        assert time.monotonic() < deadline, found
    return found


def endings(node, kernel):
    return Counter(e.name for e in node.events(kernel))["kernel.terminated"]


def lost(node, **options):
    """A kernel that runs on, and that the next agent does not know."""
    node.configure(QUICK.format(**options))
    node.start()
    kernel = node.create()
    node.end()
    forget(node, kernel)
    return kernel


def test_a_container_that_the_ledger_lost_is_reported_and_only_removed_when_somebody_asks(node):
    kernel = lost(node, policy="report", grace="200ms")
    node.start()
    assert node.ask("list_kernels", include_ended=True) == []
    assert node.await_line("a stranger")
    found = reconcile_until(node, lambda found: verdicts(found).get("container") == "report")
    assert verdicts(found) == {"container": "report", "scratch": "leave", "run-dir": "leave"}
    assert container(node, kernel).is_dir()
    assert len(node.processes()) >= 2
    assert any("agentctl leaks" in line for line in node.ask("get_status").warnings)
    assert "report" in node.agentctl("reconcile", "--dry-run")

    rows = node.json("leaks", "--fix")
    assert {(row["kind"], row["outcome"]) for row in rows} == {
        ("container", "given-back"),
        ("scratch", "given-back"),
        ("run-dir", "given-back"),
    }
    assert node.json("leaks", "--fix") == []
    node.clean()


def test_a_stranger_is_removed_after_its_grace_where_the_policy_says_so(node):
    kernel = lost(node, policy="remove", grace="200ms")
    node.start()
    assert node.await_line("a stranger was removed")
    assert not container(node, kernel).exists()
    reconcile_until(node, lambda found: not found.actions)
    node.clean()


def test_a_stranger_that_is_younger_than_the_grace_is_left_alone_whoever_asks(node):
    kernel = lost(node, policy="remove", grace="1h")
    node.start()
    assert verdicts(node.ask("reconcile"))["container"] == "wait"
    mended = {row["kind"]: row for row in node.json("leaks", "--fix")}
    assert {row["outcome"] for row in mended.values()} == {"left"}
    assert "of 3600 s" in mended["container"]["because"]
    assert container(node, kernel).is_dir()
    node.end()
    node.config.write_text(node.config.read_text().replace('"1h"', '"100ms"'))
    node.start()
    reconcile_until(node, lambda found: not found.actions)


def test_kernels_of_another_agent_on_the_same_scratch_root_are_never_touched(nodes):
    first = nodes()
    other = nodes(agent="u", scratches=first.scratches)
    other.start()
    kernel = other.create()
    first.configure(QUICK.format(policy="remove", grace="1ms"))
    first.start()
    for _ in range(5):
        assert first.ask("reconcile").actions == []
        assert first.json("leaks", "--fix") == []
    assert other.run(kernel, "print(open('/proc/self/cmdline').read() and 42)")[0] == "42\n"
    other.end(signal.SIGKILL)
    assert first.ask("reconcile").actions == []
    assert (first.scratches / kernel / "work").is_dir()
    other.start()
    assert other.run(kernel, "print(6 * 7)")[0] == "42\n"
    other.destroy(kernel)


@pytest.mark.parametrize("away", [False, True], ids=["running", "stopped"])
def test_a_kernel_whose_processes_were_killed_ends_once_and_says_so(node, away):
    node.start()
    kernel, other = node.create(), node.create()
    if away:
        node.end()
    kill(node, kernel)
    if away:
        node.start()
    row = node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=30)
    assert (row.reason, row.exit_code) == ("self-terminated", None)
    node.ask("reconcile")
    assert endings(node, kernel) == 1
    assert node.run(other, "print(42)")[0] == "42\n"


@pytest.mark.parametrize("away", [False, True], ids=["running", "stopped"])
def test_a_container_that_was_removed_by_hand_ends_its_kernel_and_gives_the_rest_back(node, away):
    node.configure(QUICK.format(policy="report", grace="1h"))
    node.start()
    kernel = node.create(slots={"cpu": "1", "mem": "64m", "cuda.shares": "0.5"})
    if away:
        node.end()
    else:
        os.kill(node.process.pid, signal.SIGSTOP)  # it must not see the one without the other
    kill(node, kernel)
    shutil.rmtree(container(node, kernel))
    if away:
        node.start()
    else:
        os.kill(node.process.pid, signal.SIGCONT)
    row = node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=30)
    assert row.reason == "container-not-found"
    assert endings(node, kernel) == 1


def test_processes_that_run_on_without_their_containers_directory_keep_all_that_they_use(node):
    node.configure(QUICK.format(policy="remove", grace="1ms"))
    node.start()
    kernel = node.create()
    shutil.rmtree(container(node, kernel))
    for _ in range(3):
        assert node.ask("reconcile").agreed == 1
    assert node.run(kernel, "print(6 * 7)")[0] == "42\n"
    assert node.ask("list_leaks") == []
    node.destroy(kernel)
    node.await_shims()  # whose order to end it would have been in the directory
    assert node.processes() == []


def test_a_kernel_outlives_its_device_and_nobody_else_is_given_that_when_it_returns(node):
    whole = (EXAMPLES / "mock-accelerator.toml").read_text()
    first, *devices = whole.split("[[devices]]")
    file = node.root / "mock-accelerator.toml"
    file.write_text("[[devices]]".join([first, devices[0]]))
    node.config.write_text(node.config.read_text().replace(str(EXAMPLES), str(node.root)))
    slots = {"mem": "1m", "cuda.shares": "1"}
    node.start()
    kernel = node.create(slots=slots)
    node.end()

    file.write_text("[[devices]]".join([first, devices[1]]))
    node.start()
    assert node.run(kernel, "print(42)")[0] == "42\n"
    assert node.ask("reconcile").agreed == 1
    assert node.ask("list_leaks") == []
    other = node.create(slots=slots)
    with pytest.raises(InsufficientResource):
        node.create(slots=slots)
    node.destroy(other)
    node.end()

    file.write_text(whole)
    node.start()
    free = {row.slot: row.free for row in node.ask("list_slots")}
    assert free["cuda.shares"] == "3"
    assert node.run(kernel, "print(42)")[0] == "42\n"


@pytest.mark.leaves("it proves that what is left is noticed, and ends it afterwards")
def test_a_test_that_leaves_something_fails(node):
    node.start()
    left = node.scratches / "left"
    left.mkdir(parents=True)
    with pytest.raises(AssertionError):
        node.leave()
    left.rmdir()
    node.leave()
