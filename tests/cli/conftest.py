"""An agent's RPC server with canned services, and `agentctl` called as its entry point calls it."""

import asyncio
import threading
from types import SimpleNamespace

import pytest
from canned import KERNEL_PORT

from agent_core.cli.main import run
from agent_core.contracts.errors import InsufficientResource, NotFound
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.rpc import RpcServer
from agent_core.wire import decisions as d
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import reconciling as r


def kernel_row(kernel_id="k1", state="RUNNING", **fields):
    base = {"session_id": "s1", "image": "python", "reason": None, "exit_code": None}
    return m.KernelRow(kernel_id=kernel_id, state=state, created_at=1.0, **{**base, **fields})


def event(number, name, **data):
    durable = None if name == "kernel.step" else f"1-{number}"
    return m.EventItem(id=durable, name=name, at=1.0, kernel_id="k1", session_id="s1", data=data)


def decided(*, granted):
    """What was decided of one slot, of which one device is taken or nothing."""
    devices = [
        d.CandidateRow(
            device_id=f"cpu{n}",
            numa_node=n % 2,
            rank=n + 1,
            free="1",
            taken="1" if granted and n == 0 else "0",
            reason="the smallest" if granted and n == 0 else "free",
        )
        for n in range(3)
    ]
    remedy = d.RemedyRow(kind="end-kernels", text="free 1 more cpu", kernels=("k1",))
    slot = d.SlotDecision(
        slot="cpu",
        plugin="cpu",
        type="count",
        asked="1" if granted else "4",
        free="3",
        granted=granted,
        strategy="fill",
        candidates=devices,
        more=2,
        remedies=() if granted else (remedy,),
    )
    return {"granted": granted, "slots": (slot,)}


class Services:
    """The services of an agent: answers are canned, and what was asked is recorded."""

    def __init__(self):
        self.specs = []
        self.backups = []
        self.inputs = []
        self.interrupts = []
        self.executed = []
        self.answered = asyncio.Event()
        self.interrupted = threading.Event()
        self.stubborn = False
        self.mended = ["given-back"]
        self.final = "RUNNING"
        self.output = [m.OutputItem(kind="output", stream="stdout", text="42\n")]
        self.result = {"status": "finished", "exit_code": 0}

    # ---- the node ----

    def status(self):
        return m.Status(
            agent_id="i-test",
            version="0.1.0",
            protocol=1,
            pid=1,
            state="ready",
            started_at=1.0,
            backend="process",
            isolation="none",
            state_dir="/s",
            addresses=["unix:///s/agent.sock"],
            kernels={"RUNNING": 1},
            plugins={"ready": 2},
            warnings=["beware\nof lines"],
        )

    def plugins(self):
        detail = self.plugin("mock").model_dump(include=set(m.PluginRow.model_fields))
        return [m.PluginRow(**detail)]

    async def reset_plugin(self, name):
        state = "ready" if name == "mock" else "degraded"
        return m.PluginRow(
            name=name,
            kind="device",
            state=state,
            distribution=f"accel-{name}",
            version="1",
            contract="v1",
            reason="" if state == "ready" else "its worker was killed by SIGABRT in open()",
        )

    def plugin(self, name):
        if name != "mock":
            raise NotFound(f"there is no plugin {name!r}")
        return m.PluginDetail(
            name="mock",
            kind="device",
            state="disabled",
            distribution="accel-mock",
            version="0.1.0",
            contract="v1",
            reason="no file",
            load_ms=1.5,
            traceback="Error: \x1b[31mred",
            trail=[m.TrailStep(step="open", outcome="disabled", detail="no file")],
        )

    def devices(self):
        row = {"id": "gpu0", "plugin": "mock", "model": "M", "health": "healthy"}
        used = {"cuda.shares": "0.5", "mem": str(1 << 29)}
        return [m.DeviceRow(**row, offers=["cuda.shares"], used=used)]

    def slots(self):
        row = {"slot": "mem", "plugin": "mem", "type": "bytes", "quantum": "1"}
        return [m.SlotRow(**row, total=str(1 << 30), used="0", free=str(3 << 29))]

    async def images(self):
        return [m.ImageRow(name="python", digest="d", architecture="x86_64", labels={})]

    async def leaks(self):
        return [m.Leak(kind="scratch", key="/x", kernel_id=None, state="stranger", detail="old")]

    async def ledger(self):
        hold = led.LedgerHold(kind="scratch", key="k1", kernel_id="k1", state="held", since=1.0)
        return led.LedgerView(
            path="/s/ledger.db",
            version=3,
            epoch="1",
            size=1 << 20,
            kernels={"RUNNING": 1},
            holds=[hold],
            holds_total=1,
            outbox=2,
            recovery=led.RecoveryRow(at=1.0, why="the file is empty", source="nothing"),
        )

    async def back_up(self, to):
        self.backups.append(to)
        return led.BackupRow(path=to or "/s/backups/b.db", size=4096, at=1.0, sound=True)

    async def fix_leaks(self):
        done = {"kind": "scratch", "key": "/x", "kernel_id": None, "because": "old"}
        return [r.MendedLeak(**done, outcome=outcome) for outcome in self.mended]

    async def reconcile(self, *, act):
        row = {"kind": "kernel", "key": "k1", "kernel_id": "k1", "verdict": "end"}
        done = r.Reconciled(**row, because="it is absent", outcome="ending" if act else "")
        warnings = ["the backend\nis mute"]
        return r.Reconciliation(
            dry_run=not act, kernels=3, agreed=2, actions=[done], warnings=warnings
        )

    def config(self):
        return {"agent": {"id": "i-test"}}

    async def reload(self):
        return m.Reloaded(applied=["agent.region"], needs_restart=["agent.id"])

    # ---- kernels ----

    async def create(self, spec):
        self.specs.append(dict(spec))
        if spec["slots"].get("cpu") == "99":
            raise InsufficientResource("cpu=99 is more than is free", details={"slot": "cpu"})
        return m.Created(kernel_id="k1", session_id="s1", state="PREPARING")

    async def plan(self, spec):
        return d.Plan(kernel_id="k9", **decided(granted=spec["slots"]["cpu"] == "1"))

    async def explain(self, kernel_id):
        slots = decided(granted=True)["slots"]
        notes = ("claim k1.1.x: it stands",)
        return d.Explanation(
            kernel_id=kernel_id, state="RUNNING", incarnation=1, slots=slots, notes=notes
        )

    async def create_session(self, session_id, specs):
        self.specs.extend(specs)
        names = ["s1-main1", "s1-sub1"] if len(specs) == 2 else ["s1-broken1"]
        kernels = [m.Created(kernel_id=n, session_id="s1", state="PREPARING") for n in names]
        return m.SessionCreated(session_id=session_id or "s1", kernels=tuple(kernels))

    async def list_ports(self):
        return [KERNEL_PORT]

    async def list_sessions(self, *, include_ended):
        kernel = m.SessionKernel(kernel_id="k1", host="main1", state="RUNNING", reason=None)
        return [m.SessionRow(session_id="s1", created_at=1.0, kernels=(kernel,))]

    async def destroy_session(self, session_id, reason):
        if session_id == "gone":
            raise NotFound("there is no session 'gone'")
        return [kernel_row("k1", "TERMINATING", reason=reason)]

    async def destroy(self, kernel_id, reason):
        if kernel_id == "gone":
            raise NotFound("there is no kernel 'gone'")
        return kernel_row(kernel_id, "TERMINATING", reason=reason)

    async def list(self, *, include_ended):
        ended = [kernel_row("k0", "TERMINATED", reason="user-requested", exit_code=0)]
        return [*(ended if include_ended else []), kernel_row()]

    async def show(self, kernel_id):
        failed = {"reason": "failed-to-start", "message": "no such interpreter", "exit_code": 127}
        row = kernel_row(state=self.final)
        fields = {**row.model_dump(), **(failed if self.final == "TERMINATED" else {})}
        grant = m.GrantRow(plugin="mem", slot="mem", device_id="root", amount="1")
        usage = m.MeasurementRow(metric="mem", value=1 << 20, unit="bytes", at=1.0)
        timing = m.StepTiming(step="slots", seconds=0.001)
        port = m.PortRow(
            name="web",
            protocol="http",
            container_port=8080,
            host="node",
            host_port=30000,
            address="node:30000",
        )
        lists = {"ports": [port], "grants": [grant], "usage": [usage], "timings": [timing]}
        return m.KernelDetail(**fields, **lists)

    async def wait(self, kernel_id, states):
        state = self.final if "RUNNING" in states else "TERMINATED"
        return kernel_row(kernel_id, state, reason=None if state == "RUNNING" else "user-requested")

    async def logs(self, kernel_id, *, follow):
        for piece in (b"caf\xc3", b"\xa9\n", b"\xff\n"):
            yield m.LogItem(data=piece)

    async def events(self, kernel_id, *, since, follow, progress):
        yield event(1, "kernel.preparing", **{"from": None, "to": "PREPARING", "incarnation": 1})
        if progress:
            yield event(0, "kernel.step", step="slots", phase="held", seconds=0.001)
            yield event(0, "kernel.step", step="start", phase="taking")
            yield event(0, "kernel.step", step="start", phase="held", seconds=0.25)
        yield event(2, f"kernel.{self.final.lower()}")

    # ---- code ----

    async def execute(self, params):
        self.executed.append(params)
        yield m.OutputItem(kind="started")
        for item in self.output:
            yield item
            if item.kind == "waiting-input":
                await self.answered.wait()
        yield m.RunResult(run_id=params.run_id, **self.result)

    async def send_input(self, kernel_id, run_id, text):
        self.inputs.append(text)
        self.answered.set()

    async def interrupt(self, kernel_id, run_id):
        self.interrupts.append(run_id)
        self.interrupted.set()
        if self.stubborn:
            return
        self.result = {"status": "interrupted", "exit_code": None}
        self.answered.set()

    async def complete(self, kernel_id, code, cursor):
        return []


@pytest.fixture
def agent(tmp_path):
    """A served agent: its address, its configuration file and its services."""
    config = tmp_path / "agent.toml"
    config.write_text('[agent]\nid = "i-test"\nvar-base-path = "var"\n')
    socket = tmp_path / "var/i-test/agent.sock"
    socket.parent.mkdir(parents=True)
    services = Services()
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve():
        server = RpcServer(Dispatcher(services, services, services, services), unix=socket)
        server.start()
        ready.set()
        await stop.wait()
        await server.stop(0.1)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield SimpleNamespace(services=services, config=str(config), socket=str(socket))
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def agentctl(capfd):
    """Call `agentctl`: returns its exit code, standard output and standard error."""

    def call(*arguments):
        capfd.readouterr()
        code = run(arguments)
        return SimpleNamespace(
            code=code, **dict(zip(("out", "err"), capfd.readouterr(), strict=True))
        )

    return call
