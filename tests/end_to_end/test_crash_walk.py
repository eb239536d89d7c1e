"""SIGKILL at each ledger commit and each effect of a kernel's life, with ten others alive.

Each walk first lets a kernel live unharmed and writes down every failpoint that is passed; then it
lives again for each of them and is killed there. The invariants are in `crash.Walk.check`.
"""

import importlib
import pkgutil
import signal
import sys

import pytest

import agent_core
from agent_core.failpoints import REGISTRY
from agent_core.testing.distributions import fake_distribution

from .crash import PHASES, TAKER, Point, Walk

ELSEWHERE = {
    "archive-place": "only where a commit is written to a file: tested where archives are",
    "kernels-forgotten": "passed once an hour, of kernels that ended long ago",
    "holds-dirty": "only where giving back fails: walked by the tests of the kernels' room",
    "holds-cleaned": "only after something was dirty: walked by the tests of the kernels' room",
    "network-create": "only where kernels share: no capability of the process backend",
    "network-remove": "only where kernels share: no capability of the process backend",
    "plugin-changed": "only where a plugin's worker dies; it writes nothing but an event",
    "ssh-key-make": "only where kernels share: walked by the tests of the kernels' room",
    "ssh-key-remove": "only where kernels share: walked by the tests of the kernels' room",
    "use-dropped": "only where kernels share: the walked kernel is its whole session",
    "ledger-keep": "only where the ledger is damaged: walked by the tests of its faults",
    "ledger-set-aside": "only where the ledger is damaged: walked by the tests of its faults",
    "ledger-place": "once, at the first start, and where the ledger was lost: walked there",
    "ledger-recovered": "once, at the first start, and where the ledger was lost: walked there",
    "ledger-copy-older": "only after an upgrade: walked by the tests of the ledger's room",
    "ledger-backup": "at a stop and now and then: walked by the tests of the ledger's room",
    "ledger-probed": "only after the ledger could not be written: tested on a full disk",
}
"""Failpoints that the life of one kernel on the process backend does not pass, and why."""

RECOVERIES = {
    "create": "effect.container-start.after",
    "restart": "effect.container-remove.after",
    "destroy": "effect.device-release.after",
}
"""For each phase where it is cut short, before the agent that recovers is killed as well."""


def label_of(name):
    return name.split(".")[1]


@pytest.fixture(scope="module", autouse=True)
def declared():
    """Let every module of the agent declare its points."""
    for module in pkgutil.walk_packages(agent_core.__path__, "agent_core."):
        if not module.name.startswith(("agent_core.testing", "agent_core.cli")):
            importlib.import_module(module.name)


@pytest.fixture
def walk(node, tmp_path, monkeypatch):
    group = {"agent_core.device.v1": {"taker": "accel_taker.plugin"}}
    files = {"accel_taker/plugin.py": TAKER}
    ranged = ["agent-core>=0.1,<0.2"]
    fake_distribution(tmp_path / "site", "accel-taker", "1.0", group, files, requires=ranged)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    node.configure('[plugins]\ninline = ["taker"]\n')
    walk = Walk(node, tmp_path / "trace")
    yield walk
    if node.process is None:
        node.start()
    walk.end()


def agents_points():
    """The agent's own points; other tests of the same run declare more."""
    return {name for name in REGISTRY if not label_of(name).startswith("test-")}


def report(capsys, text):
    with capsys.disabled():
        sys.stdout.write(f"\n  crash walk: {text}\n")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_at_each_point_of_a_life_leaves_it_whole_or_undone(walk, capsys, phase):
    points = walk.points(phase, set(ELSEWHERE))
    assert {label_of(point.name) for point in points}
    for point in points:
        walk.crash(point, phase)
        walk.node.start()
        walk.check(point)
        walk.node.end(signal.SIGKILL)
    names = {point.name for point in points}
    report(
        capsys,
        f"{phase}: killed {len(points)} times at {len(names)} of {len(agents_points())} points",
    )
    walk.node.start()
    walk.neighbours.live()
    walk.node.end()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", PHASES)
def test_a_second_kill_while_the_first_is_recovered_changes_nothing(walk, capsys, phase):
    first = next(point for point in walk.points(phase, set()) if point.name == RECOVERIES[phase])
    walk.crash(first, phase)
    points = walk.recovery(set(ELSEWHERE))
    for point in points:
        walk.crash(first, phase)
        walk.node.start(ready=False, AGENT_FAILPOINTS=point.armed)
        walk.killed(point)
        walk.node.start()
        walk.check(point)
        walk.node.end(signal.SIGKILL)
    report(capsys, f"recovery of {phase}: killed {len(points)} times more")
    walk.node.start()
    walk.neighbours.live()
    walk.node.end()


def test_every_failpoint_is_walked_or_says_why_not(walk, capsys):
    passed = {point.name for phase in PHASES for point in walk.points(phase, set())}
    missed = agents_points() - passed
    report(capsys, f"{len(passed)} of {len(agents_points())} failpoints are passed in one life")
    assert {label_of(name) for name in missed} <= set(ELSEWHERE)
    assert set(ELSEWHERE) <= {label_of(name) for name in agents_points()}


def test_a_point_knows_how_it_is_armed():
    assert Point("commit.x.before", 2).armed == "commit.x.before=kill@2"
