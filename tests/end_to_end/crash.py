"""A kernel's life on a node with ten others, cut short by SIGKILL at one point after another."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_core.contracts.errors import AgentError, CreateInterrupted, NotFound
from agent_core.failpoints import REGISTRY

SPEC = {
    "image": "python",
    "slots": {"cpu": "1", "mem": "64m", "cuda.shares": "0.5", "taker.unit": "1"},
    "ports": "web:http:8080",
}
TAKER = """
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl


class Taker(ComputeDevice):
    info = PluginInfo("device", "taker", slots=(SlotInfo("taker.unit", SlotType.COUNT),))

    def devices(self):
        offer = Offer("taker.unit", Amount(1), {"taker": 1})
        return [Device("taker-0", "Taker", counters=(Counter("taker", 2),), offers=(offer,))]

    def describe(self, grants):
        return ContainerEdits()

    def prepare(self, claim, context):
        return self.describe(claim.grants)

    def release(self, claim):
        pass


@hookimpl
def register_device():
    return Taker
"""
"""A plugin that takes and gives back; most only describe, and pass no point of their own."""

PHASES = ("create", "restart", "destroy")
NEIGHBOURS = 10


@dataclass(frozen=True)
class Point:
    """One passing of a failpoint: its name, and how often it was passed before in that agent."""

    name: str
    hit: int

    @property
    def armed(self) -> str:
        return f"{self.name}=kill@{self.hit}"


class Neighbours:
    """Kernels that live on a node meanwhile, and must notice nothing.

    Args:
        node: Where they live; its agent runs.
        number: How many.
        process: Says what tells a kernel's process from every other one, having asked it something.
        spec: What they are made of, beside memory and ports.
    """

    def __init__(self, node, number: int, process: Callable[[str], object], **spec) -> None:
        self._node, self._process = node, process
        self.kernels = [f"n{n}" for n in range(number)]
        common = {"slots": {"mem": "1m"}, "ports": SPEC["ports"], **spec}
        for kernel_id in self.kernels:
            node.create(kernel_id=kernel_id, **common)
        self.processes = {name: process(name) for name in self.kernels}
        self.ports = {name: port_of(node, name) for name in self.kernels}

    def live(self) -> None:
        """They run the very processes that they ran at first, and do what they are asked."""
        rows = {row.kernel_id: row.state for row in self._node.ask("list_kernels")}
        assert rows == dict.fromkeys(self.kernels, "RUNNING")
        assert {name: self._process(name) for name in self.kernels} == self.processes
        assert {name: port_of(self._node, name) for name in self.kernels} == self.ports
        assert len({*self.ports.values()}) == len(self.kernels)

    def go(self) -> None:
        """Let them go."""
        for kernel_id in self.kernels:
            self._node.destroy(kernel_id)


class Walk:
    """A node, ten kernels that must notice nothing, and one whose life is cut short."""

    def __init__(self, node, trace: Path) -> None:
        self.node = node
        self.trace = trace
        self.acknowledged: set[str] = set()
        self.kernel = ""
        self._lives = 0
        node.start()
        self.neighbours = Neighbours(node, NEIGHBOURS, self._process)
        self.used = node.used()
        node.end()

    def _process(self, kernel_id: str) -> tuple[int, str]:
        pid = int(self.node.run(kernel_id, "import os; print(os.getpid())")[0])
        return pid, _start_of(pid)

    # ---- the life ----

    def live(self, last: str) -> None:
        """Live up to a phase, as far as the agent lives."""
        self._be_born()
        for phase in PHASES[: PHASES.index(last) + 1]:
            try:
                getattr(self, f"_{phase}")()
            except AgentError:
                return

    def _be_born(self) -> None:
        self.acknowledged.clear()
        self._lives += 1
        self.kernel = f"walked-{self._lives}"

    def _create(self) -> None:
        self.node.ask("create_kernel", {**SPEC, "kernel_id": self.kernel})
        self.acknowledged.add("create")
        self.node.ask("wait_kernel", self.kernel, ["RUNNING"], timeout=30)

    def _restart(self) -> None:
        self.node.ask("restart_kernel", self.kernel, 1)
        self.acknowledged.add("restart")
        self.node.ask("wait_kernel", self.kernel, ["RUNNING"], timeout=30)

    def _destroy(self) -> None:
        self.node.ask("destroy_kernel", self.kernel)
        self.acknowledged.add("destroy")
        self.node.ask("wait_kernel", self.kernel, ["TERMINATED"], timeout=30)

    # ---- its points ----

    def points(self, phase: str, skipped: set[str]) -> list[Point]:
        """Live unharmed up to a phase and list the points that are passed in it."""
        self.node.start(AGENT_FAILPOINTS_TRACE=str(self.trace))
        earlier = 0
        self._be_born()
        for each in PHASES[: PHASES.index(phase) + 1]:
            earlier = len(self._passed())
            getattr(self, f"_{each}")()
        passed = numbered(self._passed())
        self.forget()
        self.node.end()
        self.trace.unlink()
        return [point for point in passed[earlier:] if point.name not in skipped]

    def recovery(self, skipped: set[str]) -> list[Point]:
        """Start the agent after a crash and list the points that are passed until all is well."""
        self.node.start(AGENT_FAILPOINTS_TRACE=str(self.trace))
        self.settled()
        passed = numbered(self._passed())
        self.forget()
        self.node.end()
        self.trace.unlink()
        return [point for point in passed if point.name not in skipped]

    def _passed(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    # ---- the crash and what must hold after it ----

    def crash(self, point: Point, phase: str) -> None:
        """Be killed at a point."""
        self.node.start(AGENT_FAILPOINTS=point.armed)
        self.live(phase)
        self.killed(point)

    def killed(self, point: Point) -> None:
        assert self.node.wait() == -signal.SIGKILL, point

    def settled(self):
        """Wait until the kernel is running or gone, and return its row, if it has one."""
        try:
            return self.node.ask("wait_kernel", self.kernel, ["RUNNING"], timeout=30)
        except NotFound:
            return None

    def check(self, point: Point) -> None:
        """Whole or undone, acknowledged is durable, nothing is leaked or told twice."""
        row = self.settled()
        assert row is not None or "create" not in self.acknowledged, point
        if row is not None and "destroy" in self.acknowledged:
            row = self.node.ask("wait_kernel", self.kernel, ["TERMINATED"], timeout=30)
        if row is not None and row.state == "RUNNING":
            assert row.incarnation == 2 or "restart" not in self.acknowledged, point
            assert self.node.run(self.kernel, "print(6 * 7)")[0] == "42\n", point
            assert port_of(self.node, self.kernel) not in self.neighbours.ports.values(), point
        elif row is not None and row.reason == "create-interrupted":
            with pytest.raises(CreateInterrupted):
                self.node.ask("create_kernel", {**SPEC, "kernel_id": self.kernel})
        self.forget()
        assert self.node.used() == self.used, point
        assert self.node.ask("list_leaks") == [], point
        self._check_events(point)

    def _check_events(self, point: Point) -> None:
        names = Counter(
            event.name for event in self.node.events() if event.kernel_id == self.kernel
        )
        assert names["kernel.preparing"] == names["kernel.terminated"] <= 1, (point, names)
        assert names["kernel.restarting"] <= 1, (point, names)

    def forget(self) -> None:
        """Destroy the kernel; a second destroy changes nothing."""
        for _ in range(2):
            with contextlib.suppress(AgentError):
                self.node.destroy(self.kernel)

    def end(self) -> None:
        """Let the neighbours go; nothing is left of anybody."""
        self.neighbours.go()
        self.node.clean()


def port_of(node, kernel_id: str) -> int:
    """The one port of the node that a kernel is reached at."""
    (port,) = node.ask("get_kernel_status", kernel_id).ports
    return port.host_port


def _start_of(pid: int) -> str:
    os.kill(pid, 0)
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def numbered(names: list[str]) -> list[Point]:
    """Number the passings of each point, in the order of a trace."""
    seen: Counter[str] = Counter()
    points = []
    for name in names:
        assert name in REGISTRY, f"{name} is passed and not declared"
        seen[name] += 1
        points.append(Point(name, seen[name]))
    return points
