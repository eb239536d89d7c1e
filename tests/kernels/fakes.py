"""What kernels call, in memory: fakes that implement the contracts and do as a test tells them.

`Script` says what each of their methods does before its work: fail, wait at a gate, or nothing; it
also writes down every call.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading

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
from agent_core.host.candidates import Candidate
from agent_core.host.policy import Decision
from agent_core.host.report import PluginRecord
from agent_core.host.states import PluginState
from agent_core.host.supervisor import InlineAdapter, LoadedPlugin

DEADLINE = 30


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

    info = PluginInfo(
        kind="backend",
        name="fake",
        capabilities={"images.pull": Support.UNKNOWN, "networks": Support.YES},
    )

    def __init__(self, script):
        self.script = script
        self.specs = {}
        self.states = {}
        self.exits = {}
        self.graces = []
        self.unknown = set()
        self.mute = False
        self.labels = {}
        self.told = []
        self.pulse = asyncio.Event()
        self.runners = {}
        self.networks = set()
        self.inside = None

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
        return self.inside or host

    async def images(self):
        return [Image("python")]

    async def inspect_image(self, name):
        await self.script.on("inspect_image", None)
        return Image(name, labels=self.labels)

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

    async def create_network(self, name):
        await self.script.on("create_network", None)
        self.networks.add(name)

    async def remove_network(self, name):
        await self.script.on("remove_network", None)
        self.networks.discard(name)

    async def stop(self, name, grace):
        await self.script.on("stop", kernel_of(name))
        self.graces.append(grace)
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
        found = [self._status(name) for name in self.specs]
        return [status for status in found if status.owner in (owner, "")]

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
        spec = self.specs[name]
        return ContainerStatus(name, spec.owner, state=state, exit=ended, record=spec.record)

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
        self.owners = {}

    def create(self, kernel_id, size=None):
        self.script.on_in_thread("scratch", kernel_id)
        for part in ("work", "config"):
            (self.root / kernel_id / part).mkdir(parents=True, exist_ok=True)
        return Scratch(kernel_id, str(self.root / kernel_id), owner="t")

    def destroy(self, kernel_id):
        self.script.on_in_thread("destroy", kernel_id)
        shutil.rmtree(self.root / kernel_id, ignore_errors=True)

    def usage(self, kernel_id):
        return ScratchUsage(0)

    def list(self):
        paths = [*self.root.iterdir()]
        return [Scratch(p.name, str(p), owner=self.owners.get(p.name, "t")) for p in paths]


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

    def measure(self, subjects):
        self.measured = [claim.plugin for subject in subjects for claim in subject.claims]
        return []


def loaded(instance, *, trusted=False):
    """Load an object as the host does."""
    info = instance.info
    candidate = Candidate(info.kind, info.name, 1, "fakes:Fake", "fakes", "1")
    record = PluginRecord(Decision(candidate, PluginState.READY, "", "", ()))
    adapter = InlineAdapter(type(instance))
    adapter.instance = instance
    return LoadedPlugin(record, info, adapter, trusted=trusted)
