"""SIGKILL at each side of each commit of one create and one destroy: nothing leaks, one ending."""

import signal
from collections import Counter
from pathlib import Path

import pytest

import agent_core.agent
import agent_core.kernels.journal
from agent_core.contracts.errors import AgentError
from agent_core.failpoints import REGISTRY

SPEC = {
    "kernel_id": "walked",
    "image": "python",
    "slots": {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"},
}
CREATE = [
    ("kernel-preparing", 1),
    ("holds-taking", 1),
    ("holds-taking", 2),
    ("holds-taking", 3),
    ("holds-taking", 4),
    ("kernel-running", 1),
]
DESTROY = [("kernel-terminating", 1), ("container-gone", 1), ("kernel-terminated", 1)]


def walk(commits):
    return [
        pytest.param(f"commit.{label}.{side}", hit, id=f"{label}-{hit}-{side}")
        for label, hit in commits
        for side in ("before", "after")
    ]


def attempt(node, method, *arguments):
    try:
        return node.ask(method, *arguments)
    except AgentError:
        return None


def settle(node):
    """Start the agent again, end the kernel whatever became of it, and look at what is left."""
    node.start()
    known = [row.kernel_id for row in node.ask("list_kernels", include_ended=True)]
    if known:
        node.destroy("walked")
        names = Counter(event.name for event in node.events("walked"))
        assert names["kernel.terminated"] == 1
        assert names["kernel.preparing"] == 1
    node.clean()
    return known


@pytest.mark.parametrize(("point", "hit"), walk(CREATE))
def test_a_kill_during_create_leaves_nothing(node, point, hit):
    node.start(AGENT_FAILPOINTS=f"{point}=kill@{hit}")
    acknowledged = attempt(node, "create_kernel", SPEC)
    assert node.wait() == -signal.SIGKILL
    known = settle(node)
    assert known or acknowledged is None
    if point == "commit.kernel-preparing.before":
        assert known == []


@pytest.mark.parametrize(("point", "hit"), walk(DESTROY))
def test_a_kill_during_destroy_is_finished_by_the_next_agent(node, point, hit):
    node.start(AGENT_FAILPOINTS=f"{point}=kill@{hit}")
    node.create(**SPEC)
    attempt(node, "destroy_kernel", "walked")
    assert node.wait() == -signal.SIGKILL
    assert settle(node) == ["walked"]


def test_the_walk_covers_every_commit_of_a_create_and_a_destroy(node, tmp_path):
    trace = tmp_path / "trace"
    node.start(AGENT_FAILPOINTS_TRACE=str(trace))
    node.create(**SPEC)
    node.destroy("walked")
    node.clean()
    hit = Counter(name for name in Path(trace).read_text().split() if name in REGISTRY)
    hit.pop("commit.kernels-forgotten.before", None)
    hit.pop("commit.kernels-forgotten.after", None)
    walked = Counter(
        f"commit.{label}.{side}" for label, _ in CREATE + DESTROY for side in ("before", "after")
    )
    assert hit == walked
    assert agent_core.agent.FORGETTING.before.name in REGISTRY
