"""A session of two kernels whose life is cut short by SIGKILL at one point after another."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from pathlib import Path

from agent_core.contracts.errors import AgentError, NotFound

from .crash import PHASES, Point, numbered

DEADLINE = 60


class Session:
    """The life of a session of two kernels, up to a phase and as far as the agent lives.

    Args:
        node: Where it lives.
        trace: The file in which an unharmed agent writes down which points it passes.
        spec: What both of its kernels are made of.
    """

    def __init__(self, node, trace: Path, spec: dict) -> None:
        self.node, self.trace, self.spec = node, trace, spec
        self.number = 0
        self.acknowledged: set[str] = set()
        self.used: dict[str, str] = {}

    @property
    def name(self) -> str:
        return f"s{self.number}"

    @property
    def kernels(self) -> list[str]:
        return [f"{self.name}-a", f"{self.name}-b"]

    # ---- the life ----

    def live(self, last: str) -> None:
        """Live up to a phase."""
        self.number += 1
        self.acknowledged.clear()
        for phase in PHASES[: PHASES.index(last) + 1]:
            getattr(self, phase)()

    def create(self) -> None:
        specs = [{**self.spec, "kernel_id": kernel} for kernel in self.kernels]
        self.node.ask("create_session", specs, self.name)
        self.acknowledged.add("create")
        self.wait("RUNNING")

    def restart(self) -> None:
        self.node.ask("restart_kernel", self.kernels[0], 1)
        self.acknowledged.add("restart")
        self.wait("RUNNING")

    def destroy(self) -> None:
        self.node.ask("destroy_session", self.name)
        self.acknowledged.add("destroy")
        self.wait("TERMINATED")

    def wait(self, state: str) -> None:
        for kernel in self.kernels:
            row = self.node.ask("wait_kernel", kernel, [state], timeout=DEADLINE)
            assert row.state == state, self.node.ask("get_kernel_status", kernel)

    # ---- its points ----

    def points(self, phase: str) -> list[Point]:
        """Live unharmed, and list the points that are passed in a phase."""
        self.node.start(AGENT_FAILPOINTS_TRACE=str(self.trace))
        if phase != PHASES[0]:
            self.live(PHASES[PHASES.index(phase) - 1])
            earlier = len(self._passed())
            getattr(self, phase)()
        else:
            earlier = len(self._passed())  # what the start itself has passed, once and for all
            self.live(phase)
        passed = numbered(self._passed())[earlier:]
        self.forget()
        self.node.end()
        self.trace.unlink()
        return passed

    def _passed(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    # ---- the crash and what must hold after it ----

    def crash(self, point: Point, phase: str) -> None:
        """Be killed at a point."""
        self.node.start(AGENT_FAILPOINTS=point.armed)
        with contextlib.suppress(AgentError):
            self.live(phase)
        assert self.node.wait() == -signal.SIGKILL, point

    def check(self, point: Point) -> None:
        """Both or none, acknowledged is durable, nothing leaks and nothing is told twice."""
        states = [self.state(kernel) for kernel in self.kernels]
        assert states[0] == states[1] or None not in states, (point, states)
        assert None not in states or "create" not in self.acknowledged, point
        if "destroy" in self.acknowledged:
            self.wait("TERMINATED")
        elif states == ["RUNNING", "RUNNING"]:
            self.whole(point)
        self.forget()
        assert self.node.used() == self.used, point
        self.node.talk(_clean)
        self.nothing_is_left(point)
        names = Counter((event.kernel_id, event.name) for event in self.node.events())
        for kernel in self.kernels:
            preparing = names[kernel, "kernel.preparing"]
            assert preparing == names[kernel, "kernel.terminated"] <= 1, (point, names)

    def state(self, kernel: str) -> str | None:
        """The state of a kernel once it runs or has ended; None when nobody knows it."""
        try:
            return self.node.ask("wait_kernel", kernel, ["RUNNING"], timeout=DEADLINE).state
        except NotFound:
            return None

    def whole(self, point: Point) -> None:
        """Assert more of a session that runs; for those who have a real one."""

    def nothing_is_left(self, point: Point) -> None:
        """Assert more of a session that is gone; for those who have a real one."""

    def forget(self) -> None:
        """Destroy it; a second destroy changes nothing."""
        for _ in range(2):
            with contextlib.suppress(AgentError):
                self.node.ask("destroy_session", self.name)
        for kernel in self.kernels:
            with contextlib.suppress(AgentError):
                self.node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=DEADLINE)


def first(points: list[Point]) -> list[Point]:
    """The first passing of each point."""
    found: dict[str, Point] = {}
    for point in points:
        found.setdefault(point.name, point)
    return [*found.values()]


async def _clean(agent) -> None:
    """Wait until what could not be given back at first is given back."""
    async with asyncio.timeout(DEADLINE):
        while await agent.list_leaks():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
