"""A server at a real socket, and the services that its caller supplies."""

import asyncio
import resource
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq
import zmq.asyncio
from canned import KERNEL_PORT

from agent_core.client import AgentClient
from agent_core.contracts.errors import NotFound
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.rpc import RpcServer
from agent_core.wire import frames
from agent_core.wire import models as m


class Services:
    """The node, kernels and code of a test: answers are canned, and what happened is recorded."""

    def __init__(self):
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.release = asyncio.Event()
        self.sent = 0
        self.finished = []
        self.inputs = []
        self.row = m.KernelRow(
            kernel_id="k1",
            session_id="s1",
            state="RUNNING",
            image="python",
            reason=None,
            exit_code=None,
            created_at=1.0,
        )
        self.next_output = [m.OutputItem(kind="output", stream="stdout", text="42\n")]
        self.next_result = m.RunResult(run_id="r", status="finished", exit_code=0)

    # the node

    def status(self):
        return m.Status(
            agent_id="a",
            version="0.1.0",
            protocol=1,
            pid=1,
            state="ready",
            started_at=1.0,
            backend="process",
            isolation="none",
            state_dir="/s",
            addresses=[],
            kernels={},
            plugins={},
        )

    def plugins(self):
        detail = self.plugin("mock")
        return [m.PluginRow(**detail.model_dump(include=set(m.PluginRow.model_fields)))]

    def plugin(self, name):
        if name == "exit":
            raise SystemExit(3)
        if name == "broken":
            raise RuntimeError("secret detail")
        if name != "mock":
            raise NotFound(f"there is no plugin {name!r}", details={"name": name})
        return m.PluginDetail(
            name=name,
            kind="device",
            state="ready",
            distribution="accel-mock",
            version="0.1.0",
            contract="v1",
            reason="",
        )

    def devices(self):
        return ()

    def slots(self):
        return ()

    async def images(self):
        raise SystemExit(3)

    async def leaks(self):
        raise RuntimeError("secret detail")

    def config(self):
        return {"agent": {"id": "a"}, "huge": "x" * self.sent}

    # kernels

    async def create(self, spec):
        if spec.get("slow"):
            self.entered.set()
            try:
                await self.release.wait()
                self.finished.append("create")
            finally:
                self.left.set()
        return m.Created(kernel_id=spec["kernel_id"], session_id="s1", state="PREPARING")

    async def destroy(self, kernel_id, reason):
        return self.row.model_copy(update={"state": "TERMINATING", "reason": reason})

    async def create_session(self, session_id, specs):
        created = m.Created(kernel_id="k1", session_id="s1", state="PREPARING")
        return m.SessionCreated(session_id=session_id or "s1", kernels=(created,) * len(specs))

    async def list_ports(self):
        return [KERNEL_PORT]

    async def list_sessions(self, *, include_ended):
        kernel = m.SessionKernel(kernel_id="k1", host="main1", state="RUNNING", reason=None)
        return [m.SessionRow(session_id="s1", created_at=1.0, kernels=(kernel,))]

    async def destroy_session(self, session_id, reason):
        return [self.row.model_copy(update={"state": "TERMINATING", "reason": reason})]

    async def restart(self, kernel_id, incarnation):
        return self.row.model_copy(update={"state": "RESTARTING", "incarnation": 2})

    async def list(self, *, include_ended):
        return [self.row] if include_ended else []

    async def show(self, kernel_id):
        return m.KernelDetail(**self.row.model_dump())

    async def wait(self, kernel_id, states):
        self.entered.set()
        try:
            await self.release.wait()
        finally:
            self.left.set()
        return self.row

    async def logs(self, kernel_id, *, follow):
        """Endless with follow, and as fast as it is read."""
        self.entered.set()
        try:
            yield m.LogItem(data=b"\xff\x00first")
            while follow:
                self.sent += 1
                yield m.LogItem(data=b"x" * 8192)
        finally:
            self.left.set()

    async def events(self, kernel_id, *, since, follow, progress):
        """Silent with follow, until released."""
        self.entered.set()
        try:
            yield m.EventItem(id="1-1", name="kernel_started", at=1.0, data={"since": since})
            if follow:
                await self.release.wait()
        finally:
            self.left.set()

    # code

    async def execute(self, params):
        for item in self.next_output:
            yield item
        if self.next_result is not None:
            yield self.next_result.model_copy(update={"run_id": params.run_id})

    async def send_input(self, kernel_id, run_id, text):
        self.inputs.append((kernel_id, run_id, text))

    async def interrupt(self, kernel_id, run_id):
        self.inputs.append((kernel_id, run_id))

    async def complete(self, kernel_id, code, cursor):
        return ["print", "property"]


class Agent:
    """A running server with its services and its unix socket."""

    def __init__(self, server, services, path):
        self.server = server
        self.services = services
        self.path = path

    def client(self, **options):
        return AgentClient(str(self.path), **options)

    @asynccontextmanager
    async def raw(self):
        """Yield a bare DEALER socket that is connected to it."""
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(f"ipc://{self.path}")
        try:
            yield Raw(socket)
        finally:
            socket.close()
            context.term()


class Raw:
    """Sends what no honest client would."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, *parts):
        await self.socket.send_multipart(parts)

    async def request(self, id_, method="ping", params=None, timeout=None, credit=0):
        request = frames.Request(id_, method, params or {}, timeout, credit)
        await self.send(frames.encode_request(request))

    async def receive(self):
        async with asyncio.timeout(5):
            return frames.decode(await self.socket.recv())

    async def proves_alive(self, id_=1 << 40):
        await self.request(id_)
        frame = await self.receive()
        return frame == frames.Reply(id_, {"text": ""})


class Bare:
    """A client made of one socket and no library, so that it can stop in the middle of anything."""

    GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path):
        """Connect and shake hands; nothing is read from then on."""
        bare = cls(*await asyncio.open_unix_connection(str(path), limit=4096))
        bare.writer.write(cls.GREETING)
        await bare.reader.readexactly(64)
        bare.writer.write(bytes([4, len(cls.READY)]) + cls.READY)
        head = await bare.reader.readexactly(2)
        await bare.reader.readexactly(head[1])
        return bare

    async def request(self, id_, method="ping", params=None, credit=0):
        """Send a request, waiting until the server has taken it."""
        data = frames.encode_request(frames.Request(id_, method, params or {}, None, credit))
        self.writer.write(b"\x02" + len(data).to_bytes(8, "big") + data)
        await self.writer.drain()

    async def answer(self):
        """Read one frame of up to 255 bytes."""
        head = await self.reader.readexactly(2)
        assert head[0] == 0
        return frames.decode(await self.reader.readexactly(head[1]))

    def close(self):
        """Vanish."""
        self.writer.transport.abort()


@asynccontextmanager
async def serving(path, **options):
    services = Services()
    dispatcher = Dispatcher(services, services, services, services)
    server = RpcServer(dispatcher, unix=path, **options)
    server.start()
    try:
        yield Agent(server, services, path)
    finally:
        services.release.set()
        await server.stop(grace=1.0)
        leftover = asyncio.all_tasks() - {asyncio.current_task()}
        assert not leftover, f"the server left tasks behind: {leftover}"


@pytest.fixture
def agent(tmp_path: Path):
    """Make a server in an ``async with``: agent(limits=...), agent(path) for another place."""
    return lambda path=tmp_path / "agent.sock", **options: serving(path, **options)


@pytest.fixture
def bare():
    """Connect a client made of one socket and no library."""
    return Bare.connect


@pytest.fixture
def usage():
    """What this process uses: its open descriptors and its resident bytes."""
    return lambda: (
        len(list(Path("/proc/self/fd").iterdir())),
        int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize(),
    )


@pytest.fixture
def within():
    """Wait for something, but not for ever."""

    async def wait(awaitable, seconds=5.0):
        async with asyncio.timeout(seconds):
            return await awaitable

    return wait


@pytest.fixture
def until():
    """Wait until a condition holds that nobody announces."""

    async def wait(condition, seconds=5.0):
        for _ in range(int(seconds * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        pytest.fail("the condition never held")

    return wait
