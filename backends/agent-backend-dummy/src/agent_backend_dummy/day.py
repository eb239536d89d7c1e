"""One simulated day: every step takes its time and goes wrong as the faults say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from agent_backend_dummy.delays import Delays
from agent_backend_dummy.faults import Fault, Faults, SimulatedFault, Subject, read_faults
from agent_backend_dummy.settings import Settings
from agent_core.contracts.backend import ExitStatus

T = TypeVar("T")

NOBODY = Subject()


class Day:
    """Delays and faults of one runtime, drawn from generators with one seed.

    Attributes:
        delays: How long steps take.
        faults: What goes wrong.
    """

    def __init__(self, settings: Settings) -> None:
        seed = settings.seed
        self.delays = Delays(settings.delays, random.Random(seed))  # noqa: S311 - a simulation
        faults = read_faults(settings.faults, settings.faults_file)
        draws = random.Random(None if seed is None else seed + 1)  # noqa: S311 - a simulation
        self.faults = Faults(faults, draws)

    async def step(
        self,
        name: str,
        subject: Subject,
        work: Callable[[], T],
        *delays: str,
    ) -> T:
        """Do the work of one step after its delays, with the faults that strike it.

        Raises:
            SimulatedFault: when a fault says that it fails.
        """
        after = await self.before(name, subject, *delays)
        done = work()
        self.fail(after)
        return done

    def fail(self, faults: Sequence[Fault]) -> None:
        """Fail by the first of some faults, if there is one.

        Raises:
            SimulatedFault: when there is.
        """
        if faults:
            raise SimulatedFault(faults[0].message)

    async def before(self, name: str, subject: Subject, *delays: str) -> list[Fault]:
        """Spend a step's delays and suffer its faults; returns those that fail once it is done."""
        if delays:
            await self.delays.spend(*delays)
        later: list[Fault] = []
        for fault, seconds in self.faults.striking(name, subject):
            if fault.action == "fail" and fault.when == "after":
                later.append(fault)
            else:
                await _suffer(fault, seconds)
        return later

    async def stream(
        self, name: str, subject: Subject, items: AsyncIterator[T], *delays: str
    ) -> AsyncIterator[T]:
        """Yield the items of one step, as `step` does its work."""
        after = await self.before(name, subject, *delays)
        async for item in items:
            yield item
        self.fail(after)

    def doom(self, subject: Subject) -> tuple[float, ExitStatus] | None:
        """Say after how many seconds a container that starts ends by a fault, and how."""
        for fault, seconds in self.faults.striking("run", subject):
            if fault.action in ("exit", "oom"):
                return seconds or 0.0, fault.ending()
        return None

    def times_told(self, subject: Subject) -> int:
        """Say how often an event is told."""
        actions = {fault.action for fault, _ in self.faults.striking("event", subject)}
        if "lose" in actions:
            return 0
        return 2 if "duplicate" in actions else 1

    def described(self) -> list[dict[str, Any]]:
        """Render every fault with how often it has struck."""
        return [fault.to_data() for fault in self.faults.faults]


async def _suffer(fault: Fault, seconds: float | None) -> None:
    if fault.action == "fail":
        raise SimulatedFault(fault.message)
    if fault.action == "slow":
        await asyncio.sleep(seconds or 0.0)
    elif fault.action == "hang":
        if seconds is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(seconds)
