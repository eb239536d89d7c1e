"""A node's kernels with the real ledger, allocator, bus and owners; only what they call is fake.

The fakes implement the contracts in memory. `Script` says what each of their methods does before
its work: fail, wait at a gate, or nothing; it also writes down every call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import threading
from collections import Counter as Tally
from pathlib import Path

import pytest

from agent_core import failpoints
from agent_core.contracts.amount import Amount
from agent_core.contracts.backend import (
    BackendEvent,
    ContainerBackend,
    ContainerState,
    ContainerStatus,
    ExitStatus,
    Handles,
    Image,
    Presence,
)
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import NotFound
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType, Support
from agent_core.contracts.runner import KernelRunner, Launch
from agent_core.contracts.scratch import Scratch, ScratchManager, ScratchUsage
from agent_core.events.bus import EventBus
from agent_core.host.candidates import Candidate
from agent_core.host.policy import Decision
from agent_core.host.report import PluginRecord
from agent_core.host.states import PluginState
from agent_core.host.supervisor import InlineAdapter, LoadedPlugin
from agent_core.kernels.adoption import adopt_all
from agent_core.kernels.devices import DeviceService
from agent_core.kernels.leaks import find_leaks
from agent_core.kernels.logs import LogStore
from agent_core.kernels.owners import Owners
from agent_core.kernels.service import KernelService
from agent_core.kernels.services import Services, Settings
from agent_core.kernels.watching import Watching
from agent_core.ledger import Ledger
from agent_core.resources.allocator import Allocator

DEADLINE = 30
PLUGINS = ("aa", "bb", "cc")
SLOTS = {f"{name}.unit": "1" for name in PLUGINS}


async def until(condition):
    """Let everybody else go on until a condition holds; where nothing tells of it."""
    while not condition():  # noqa: ASYNC110 - the condition is of the world, which has no event
        await asyncio.sleep(0)


class Gate:
    """Where a call waits: `reached` once it is there, and it goes on once it is `open`."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self._opened, self._opened_for_threads = asyncio.Event(), threading.Event()

    def open(self):
        self._opened.set()
        self._opened_for_threads.set()

    async def wait(self):
        self.reached.set()
        await self._opened.wait()

    def wait_in_thread(self):
        self._loop.call_soon_threadsafe(self.reached.set)
        self._opened_for_threads.wait(DEADLINE)


class Script:
    """What the methods of all fakes do before their work, by the method's name."""

    def __init__(self):
        self.calls = []
        self._errors = {}
        self._gates = {}

    def fail(self, method, error=None, *, times=10**9, kernel=None):
        """Let a method fail some times, for one kernel or for all."""
        self._errors[method, kernel] = [error or RuntimeError(f"no {method} today"), times]

    def heal(self):
        self._errors.clear()

    def gate(self, method):
        self._gates[method] = Gate()
        return self._gates[method]

    def open_all(self):
        for gate in self._gates.values():
            gate.open()

    async def on(self, method, kernel):
        if gate := self._begin(method, kernel):
            await gate.wait()
        self._raise(method, kernel)

    def on_in_thread(self, method, kernel):
        if gate := self._begin(method, kernel):
            gate.wait_in_thread()
        self._raise(method, kernel)

    def _begin(self, method, kernel):
        self.calls.append((method, kernel))
        return self._gates.get(method)

    def _raise(self, method, kernel):
        for key in ((method, kernel), (method, None)):
            plan = self._errors.get(key)
            if plan and plan[1] > 0:
                plan[1] -= 1
                raise plan[0]

    def made(self, *methods):
        return [call for call, _ in self.calls if call in methods]


def kernel_of(container):
    return container.split(".")[1]


class FakeBackend(ContainerBackend):
    """Containers are entries; one that is started connects a runner, unless it is mute."""

    info = PluginInfo(kind="backend", name="fake", capabilities={"images.pull": Support.UNKNOWN})

    def __init__(self, script):
        self.script = script
        self.specs = {}
        self.states = {}
        self.exits = {}
        self.unknown = set()
        self.mute = False
        self.told = []
        self.pulse = asyncio.Event()
        self.runners = {}

    # ---- what a test does to it ----

    def end(self, name, code=0, *, oom=False, tell=True):
        """A container ends by itself."""
        self.states[name] = ContainerState.EXITED
        self.exits[name] = ExitStatus(code, oom=oom)
        self._disconnect(name)
        if tell:
            self.tell(name)

    def tell(self, name):
        self.told.append(BackendEvent(str(len(self.told)), "exited", name, self.exits.get(name)))
        self.pulse.set()

    def lose(self, name):
        """A container is removed by somebody else."""
        del self.specs[name], self.states[name]
        self._disconnect(name)

    def _disconnect(self, name):
        if writer := self.runners.pop(name, None):
            writer.close()

    # ---- the contract ----

    def paths(self, host):
        return host

    async def images(self):
        return [Image("python")]

    async def inspect_image(self, name):
        await self.script.on("inspect_image", None)
        return Image(name)

    async def create(self, spec):
        await self.script.on("create", kernel_of(spec.name))
        self.specs.setdefault(spec.name, spec)
        self.states.setdefault(spec.name, ContainerState.CREATED)
        await self.script.on("created", kernel_of(spec.name))

    async def start(self, name):
        await self.script.on("start", kernel_of(name))
        self.states[name] = ContainerState.RUNNING
        if not self.mute:
            await self._connect(name)

    async def _connect(self, name):
        _, path, kernel_id, incarnation = self.specs[name].argv
        hello = {"type": "hello", "protocol": 1, "pid": 1, "kernel_id": kernel_id}
        body = json.dumps({**hello, "incarnation": int(incarnation), "runs": []}).encode()
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(len(body).to_bytes(4, "big") + body)
        self.runners[name] = writer

    async def stop(self, name, grace):
        await self.script.on("stop", kernel_of(name))
        if self.states.get(name) is ContainerState.RUNNING:
            self.end(name, 143)

    async def kill(self, name):
        await self.script.on("kill", kernel_of(name))

    async def remove(self, name):
        await self.script.on("remove", kernel_of(name))
        self.specs.pop(name, None)
        self.states.pop(name, None)
        self._disconnect(name)

    async def list(self, owner):
        await self.script.on("list", None)
        return [self._status(name) for name in self.specs]

    async def inspect(self, name):
        await self.script.on("inspect", kernel_of(name))
        return self._status(name)

    def _status(self, name):
        if name in self.unknown:
            return ContainerStatus(name, presence=Presence.UNKNOWN, reason="nobody knows")
        if name not in self.specs:
            return ContainerStatus(name, presence=Presence.ABSENT)
        state = self.states[name]
        ended = self.exits.get(name) if state is ContainerState.EXITED else None
        return ContainerStatus(name, state=state, exit=ended, record=self.specs[name].record)

    async def events(self, cursor):
        await self.script.on("events", None)
        seen = len(self.told) if cursor is None else int(cursor) + 1
        while True:
            self.pulse.clear()
            for event in self.told[seen:]:
                seen += 1
                yield event
            await self.pulse.wait()
            await self.script.on("next_event", None)

    async def logs(self, name, *, follow=False):
        await self.script.on("logs", kernel_of(name))
        if name not in self.specs:
            raise NotFound(name)
        yield b"said"

    async def handles(self, name):
        await self.script.on("handles", kernel_of(name))
        return Handles(1, 1)

    async def verify(self, name, edits):
        await self.script.on("verify", kernel_of(name))
        return ()


class FakeRunner(KernelRunner):
    info = PluginInfo(kind="runner", name="fake")

    def launch(self, context):
        path = f"{context.run_dir}/runner.sock"
        return Launch(("/runner", path, context.kernel_id, str(context.incarnation)), {}, ())


class FakeScratch(ScratchManager):
    info = PluginInfo(kind="scratch", name="fake", capabilities={"size-limit": Support.NO})

    def __init__(self, script, root):
        self.script, self.root = script, root

    def create(self, kernel_id, size=None):
        self.script.on_in_thread("scratch", kernel_id)
        for part in ("work", "config"):
            (self.root / kernel_id / part).mkdir(parents=True, exist_ok=True)
        return Scratch(kernel_id, str(self.root / kernel_id))

    def destroy(self, kernel_id):
        self.script.on_in_thread("destroy", kernel_id)
        shutil.rmtree(self.root / kernel_id, ignore_errors=True)

    def usage(self, kernel_id):
        return ScratchUsage(0)

    def list(self):
        return [Scratch(path.name, str(path)) for path in self.root.iterdir()]


class FakeDevice(ComputeDevice):
    """Units that are prepared and released; releasing before the container is gone is a fault."""

    def __init__(self, script, name, backend, units):
        self.script, self.name, self.backend, self.units = script, name, backend, units
        self.held = set()
        self.violations = []
        slots = (SlotInfo(f"{name}.unit", SlotType.COUNT),)
        self.info = PluginInfo(
            kind="device", name=name, slots=slots, deadlines={"prepare": 60, "release": 60}
        )

    def devices(self):
        return [
            Device(
                f"{self.name}-0",
                "unit",
                counters=(Counter(self.name, self.units),),
                offers=(Offer(f"{self.name}.unit", Amount(1), {self.name: 1}),),
            )
        ]

    def describe(self, grants):
        return ContainerEdits(env={f"{self.name.upper()}_UNITS": "1"})

    def prepare(self, claim, context):
        self.script.on_in_thread(f"prepare {self.name}", claim.kernel_id)
        self.held.add(claim.id)
        return self.describe(claim.grants)

    def release(self, claim):
        self.script.on_in_thread(f"release {self.name}", claim.kernel_id)
        if any(kernel_of(name) == claim.kernel_id for name in self.backend.specs):
            self.violations.append(claim.id)
        self.held.discard(claim.id)

    def prepared(self):
        return sorted(self.held)


def loaded(instance):
    """Load an object as the host does."""
    info = instance.info
    candidate = Candidate(info.kind, info.name, 1, "fakes:Fake", "fakes", "1")
    record = PluginRecord(Decision(candidate, PluginState.READY, "", "", ()))
    adapter = InlineAdapter(type(instance))
    adapter.instance = instance
    return LoadedPlugin(record, info, adapter)


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
        )
        self.owners = Owners(self.services)
        self.kernels = KernelService(self.services, self.owners)
        self.watching = Watching(self.services, self.owners)
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
