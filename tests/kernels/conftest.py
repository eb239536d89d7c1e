"""A node's kernels with the real ledger, allocator, bus and owners; only what they call is fake."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter as Tally
from pathlib import Path

import pytest

from agent_core import failpoints
from agent_core.events.bus import EventBus
from agent_core.kernels.adoption import adopt_all
from agent_core.kernels.devices import DeviceService
from agent_core.kernels.key_pairs import KeyPairs
from agent_core.kernels.leaks import find_leaks
from agent_core.kernels.logs import LogStore
from agent_core.kernels.mending import Mending
from agent_core.kernels.owners import Owners
from agent_core.kernels.ports import PortPool
from agent_core.kernels.pulling import Pulls
from agent_core.kernels.reconciler import Reconciler
from agent_core.kernels.runner.bundle import RunnerBundle
from agent_core.kernels.service import KernelService
from agent_core.kernels.services import Services, Settings
from agent_core.kernels.watching import Watching
from agent_core.ledger import Ledger
from agent_core.resources.allocator import Allocator

from .fakes import DEADLINE, FakeBackend, FakeDevice, FakeRunner, FakeScratch, Script, loaded

PLUGINS = ("aa", "bb", "cc")
SLOTS = {f"{name}.unit": "1" for name in PLUGINS}


async def until(condition):
    """Let everybody else go on until a condition holds; where nothing tells of it."""
    while not condition():  # noqa: ASYNC110 - the condition is of the world, which has no event
        await asyncio.sleep(0)


class World:
    """The fakes, which outlive agents, and one agent's kernels on them."""

    def __init__(self, root, units):
        self.root = root
        self.script = Script()
        self.backend = FakeBackend(self.script)
        (root / "s").mkdir()
        self.scratch = FakeScratch(self.script, root / "s")
        self.fakes = [FakeDevice(self.script, name, self.backend, units) for name in PLUGINS]
        self.options = {"stop_grace": 0.1, "call_timeout": 10, "init_timeout": 10}
        self.options |= {"retry_first": 0.001, "retry_most": 0.005, "look_interval": 60}
        self.options |= {"run_root": root / "k"}
        self.started = None
        self.ports, self.cooldown = range(30000, 30004), 60.0
        self.foreign = set()
        self.seconds = 0.0

    def _now(self):
        return self.seconds

    def _obstacle(self, host, port):
        return "somebody listens" if port in self.foreign else None

    # ---- one agent ----

    async def start(self):
        self.ledger = Ledger(self.root / "ledger.db")
        self.ledger.open()
        self.bus = EventBus(self.ledger)
        self.allocator = Allocator()
        self.plugins = {fake.name: loaded(fake) for fake in self.fakes}
        devices = DeviceService(self.plugins, self.allocator)
        await devices.refresh()
        self.scratch_plugin = loaded(self.scratch)
        self.services = Services(
            Settings(agent_id="t", **self.options),
            self.ledger,
            self.bus,
            self.allocator,
            devices,
            self.backend,
            self.scratch_plugin,
            FakeRunner(),
            LogStore(self.root / "logs"),
            PortPool(self.ports, cooldown=self.cooldown, obstacle=self._obstacle, now=self._now),
            Pulls(self.backend, lambda: 10.0),
            KeyPairs(self.root / "ssh-keys"),
            RunnerBundle(None, self.root / "bundles"),
        )
        self.owners = Owners(self.services)
        self.kernels = KernelService(self.services, self.owners)
        self.reconciler = Reconciler(self.services, self.owners)
        self.mending = Mending(self.services, self.reconciler)
        self.watching = Watching(self.services, self.owners, self.reconciler)
        self.faults = await adopt_all(self.services, self.owners)
        self.started = True

    async def crash(self):
        """The agent is gone at once; what runs goes on."""
        tasks = [*self.owners._tasks.values(), *self.owners._starting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close()

    async def stop(self):
        """The agent stops as it is asked to; what waits at a gate goes on once it has heard."""
        stopping = asyncio.ensure_future(self.owners.stop())
        await until(lambda: stopping.done() or all(map(_heard, self.owners)))
        self.script.open_all()
        await stopping
        self._close()

    def _close(self):
        self.ledger.close()
        for plugin in (*self.plugins.values(), self.scratch_plugin):
            plugin.end_lanes()
        self.started = False

    # ---- what tests ask ----

    async def create(self, kernel_id="k", **changes):
        spec = {"kernel_id": kernel_id, "image": "python", "slots": SLOTS, **changes}
        return await self.kernels.create(spec)

    async def running(self, kernel_id="k"):
        await self.create(kernel_id)
        row = await self.kernels.wait(kernel_id, ["RUNNING"])
        assert row.state == "RUNNING", await self.row(kernel_id)
        return self.owners.get(kernel_id)

    async def ended(self, kernel_id="k"):
        """Wait for the end and return the row of the ledger."""
        await self.kernels.wait(kernel_id, ["TERMINATED"])
        return await self.row(kernel_id)

    async def row(self, kernel_id="k"):
        return await self.ledger.read(lambda tx: tx.kernel(kernel_id))

    async def recording(self, claims):
        """Wait until so many claims are reserved; their create is not recorded yet."""
        await until(lambda: len(self.allocator.claims()) == claims)

    async def called(self, method, times):
        """Wait until a method was called so many times."""
        await until(lambda: len(self.script.made(method)) >= times)

    async def held_as(self, state, kind, key):
        """Wait until a hold is in a state."""
        while (await self.holds()).get((kind, key)) != state:
            pass

    async def holds(self):
        rows = await self.ledger.read(lambda tx: tx.holds())
        return {(hold.kind, hold.key): hold.state.value for hold in rows}

    async def leaks(self):
        return await find_leaks(self.services)

    async def idle(self):
        """Wait until no owner has anything to do any more."""
        while tasks := [*self.owners._tasks.values()]:
            await asyncio.wait(tasks)

    async def event_names(self, kernel_id="k"):
        stream = self.kernels.events(kernel_id, since=None, follow=False, progress=False)
        return [item.name async for item in stream]

    async def step(self, name, kernel_id="k"):
        """Wait until a step of a create has begun."""
        watch = self.bus.watch(kernel_id, since=None, follow=True, progress=True)
        async with contextlib.aclosing(watch) as items:
            async for item in items:
                if (item.data.get("step"), item.data.get("phase")) == (name, "taking"):
                    return

    async def clean(self, kernel_id="k"):
        """Assert that nothing is held anywhere, and that the end was told exactly once."""
        await self.idle()
        assert await self.holds() == {}
        assert self.allocator.claims() == ()
        assert self.services.ports.held == {}
        assert await self.leaks() == []
        assert self.backend.specs == {}
        for fake in self.fakes:
            assert (fake.held, fake.violations) == (set(), [])
        names = Tally(await self.event_names(kernel_id))
        assert names["kernel.terminating"] == names["kernel.terminated"] == 1


def _heard(owner):
    return owner._ending.done() or not owner.building


@pytest.fixture
def live(monkeypatch):
    """Run a test's coroutine in a world of its own."""

    def run(body, *, units=4, **options):
        async def main(root):
            world = World(root, units)
            world.options |= options
            await world.start()
            try:
                async with asyncio.timeout(DEADLINE):
                    return await body(world)
            finally:
                world.script.heal()
                for name in [*world.backend.runners]:
                    world.backend._disconnect(name)
                if world.started:
                    await world.stop()

        # A socket's path is bounded, and pytest's own directories are long.
        with tempfile.TemporaryDirectory(prefix="k") as root:
            return asyncio.run(main(Path(root)))

    return run


@pytest.fixture
def fail_commit(monkeypatch):
    """Let the ledger fail at one side of a commit, at some of its hits."""

    def arm(name, *hits):
        armed = failpoints._Arming("", None)
        counted = Tally()

        def hit(point):
            counted[point] += 1
            if point == name and counted[point] in hits:
                raise OSError("no space left on device")

        monkeypatch.setattr(armed, "hit", hit)
        monkeypatch.setattr(failpoints, "_arming", armed)
        return counted

    return arm
