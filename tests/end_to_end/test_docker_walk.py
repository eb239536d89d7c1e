"""SIGKILL around each call of a real engine in a session's life, with others alive on it.

The walk of the process backend kills at every point. Here are those at which the engine has another
state than before: after each of its calls, and after each commit between them. The two kernels of a
session pass them one after the other: of a call the first passing is walked and the last one, of a
commit the last.
"""

from __future__ import annotations

import signal
import sys

import pytest
from servers.engine import BUSYBOX

from .crash import PHASES, Neighbours, Point, port_of
from .session_life import Session, first
from .test_crash_walk import declared  # noqa: F401 - a fixture

pytestmark = [pytest.mark.requires("docker"), pytest.mark.timeout(300)]

SPEC = {"image": BUSYBOX, "slots": {"mem": "16m"}, "ports": "web:http:8080"}
NEIGHBOURS = 3
ENGINES = {
    "create": {"network-create", "container-create", "container-start"},
    "restart": {"container-stop", "container-remove", "container-create", "container-start"},
    "destroy": {"container-stop", "container-remove", "network-remove"},
}
"""The calls of the engine that each phase has to make."""

COMMITS = {
    "create": {"holds-taking", "kernel-running"},
    "restart": {"kernel-restarting", "hold-replaced", "kernel-running"},
    "destroy": {"kernel-terminating", "container-gone", "use-dropped", "kernel-terminated"},
}
"""The commits before, between and after them."""

SHARED = {"create": {"ssh-key-make"}, "restart": set(), "destroy": {"ssh-key-remove"}}
"""What else only kernels of one session have."""


class DockerSession(Session):
    """A session of two containers on a network of their own, beside three kernels that live."""

    def __init__(self, node, trace) -> None:
        super().__init__(node, trace, SPEC)
        node.start()
        self.neighbours = Neighbours(node, NEIGHBOURS, self._process, **SPEC)
        self.used = node.used()
        self._places = self._taken()
        node.end()

    def _process(self, kernel_id: str) -> object:
        said, _, end = self.node.run(kernel_id, "echo $((6 * 7))")
        return said, end.status, self.node.process(kernel_id)

    def _taken(self) -> dict[str, list[str]]:
        """What the engine and the disk have."""
        keys = [*(self.node.state / "session-keys").glob("*")]
        return {
            "containers": self.node.containers(),
            "networks": self.node.networks(),
            "directories": sorted(map(str, [*self.node.left(), *keys])),
        }

    def whole(self, point: Point) -> None:
        """Both run, and reach each other by name on a network that is theirs."""
        main, sub = self.kernels
        row = self.node.ask("get_kernel_status", main)
        assert row.incarnation == 2 or "restart" not in self.acknowledged, point
        for kernel, peer in ((main, "sub1"), (sub, "main1")):
            stdout, stderr, _ = self.node.run(kernel, f"busybox nslookup {peer} && echo found")
            assert stdout.endswith("found\n"), (point, stdout, stderr)
            assert port_of(self.node, kernel) not in self.neighbours.ports.values(), point
        assert len(self.node.containers()) == NEIGHBOURS + 2, point
        assert len(self.node.networks()) == 1, point

    def nothing_is_left(self, point: Point) -> None:
        """What the engine and the disk have is what they had before."""
        assert self._taken() == self._places, point


@pytest.fixture
def session(docker, tmp_path):
    return DockerSession(docker(), tmp_path / "trace")


def _is_after_one_of(labels: set[str], point: Point) -> bool:
    _, label, side = point.name.split(".")
    return label in labels and side == "after"


@pytest.mark.parametrize("phase", PHASES)
def test_a_session_of_containers_that_is_cut_short_is_whole_or_undone(session, phase, capsys):
    labels = ENGINES[phase] | COMMITS[phase] | SHARED[phase]
    passed = session.points(phase)
    calls = first([point for point in passed if _is_after_one_of(ENGINES[phase], point)])
    last = first([point for point in passed[::-1] if _is_after_one_of(labels, point)])
    points = [point for point in passed if point in calls or point in last]
    assert {point.name.split(".")[1] for point in points} == labels
    for point in points:
        session.crash(point, phase)
        session.node.start()
        if phase == "restart":
            session.wait("RUNNING")  # it is recorded, and nothing keeps it from being completed
        session.check(point)
        session.node.end(signal.SIGKILL)
    with capsys.disabled():
        sys.stdout.write(f"\n  walk on Docker: {phase}: killed {len(points)} times\n")
    session.node.start()
    session.neighbours.live()
    session.neighbours.go()
    session.node.nothing_is_left()
