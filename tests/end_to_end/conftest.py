"""A whole node of the test's own: a real agent process, real plugins, real kernels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from agent_kernel_runner.plugin import DefaultRunner

from agent_core.client import AgentClient
from agent_core.contracts.errors import AgentUnreachable
from agent_core.wire.models import OutputItem

from .docker_node import DockerNode

AGENTCTL = str(Path(sys.executable).parent / "agentctl")
START_DEADLINE = 30.0
END_DEADLINE_MS = 20_000
_LAST_WORDS = 0.1
MARK = "AGENT_TEST_NODE"
"""In the environment of an agent and of its workers: the directory of the node."""
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

CONFIG = """
[agent]
id = "{agent}"
backend = "{backend}"
rpc-listen-addr = "none"
var-base-path = "{root}/var"
ipc-base-path = "{root}/run"

[container]
scratch-root = "{scratches}"
stop-grace = 2

[resource]
reserved-cpu = 0
reserved-mem = 0

[plugin.mock]
file = "{examples}/mock-accelerator.toml"
allocation-mode = "fractional"
"""


def pytest_runtest_setup(item):
    """Skip a test with its reason where something is missing, or fail it where that must be."""
    for name in (name for mark in item.iter_markers("requires") for name in mark.args):
        missing = NEEDS[name]() if name in NEEDS else None
        if missing:
            required = os.environ.get("AGENT_TESTS_REQUIRE", "").replace(",", " ").split()
            (pytest.fail if name in required else pytest.skip)(missing)


def without_pidns() -> str | None:
    """Say why no PID namespace of a test's own can be made here; None when one can."""
    lacking = [name for name in ("unshare", "nsenter", "setpriv") if not shutil.which(name)]
    if lacking:
        return f"there is no {lacking[0]}"
    tried = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "true"]
    if os.geteuid() or subprocess.run(tried, check=False, capture_output=True).returncode:
        return "a PID namespace is not permitted here"
    return None


def without_tmpfs() -> str | None:
    """Say why no file system of a test's own can be mounted here; None when one can."""
    if os.geteuid() or not shutil.which("mount"):
        return "only root mounts a tmpfs"
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    refused = subprocess.run(tried, check=False, capture_output=True).returncode
    return "mounting a tmpfs is not permitted here" if refused else None


def without_sshd() -> str | None:
    """Say why nobody can log in with SSH here; None when OpenSSH's programs are there."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    lacking = [name for name in ("sshd", "ssh", "ssh-keygen") if not shutil.which(name, path=path)]
    return f"there is no {lacking[0]}" if lacking else None


def notebook_path() -> str:
    """Where the servers of Jupyter and TensorBoard are looked for: an environment of their own."""
    return os.pathsep.join((os.environ.get("AGENT_TESTS_NOTEBOOK", ""), os.environ["PATH"]))


def without_notebook() -> str | None:
    """Say why the real servers cannot be tried; None when they are there.

    `pip install notebook tensorboard setuptools` into an environment, and its bin directory in
    AGENT_TESTS_NOTEBOOK; elsewhere small servers stand in for them.
    """
    for name in ("jupyter-notebook", "tensorboard"):
        if not shutil.which(name, path=notebook_path()):
            return f"there is no {name}, nor one in $AGENT_TESTS_NOTEBOOK"
    return None


NEEDS = {
    "notebook": without_notebook,
    "pidns": without_pidns,
    "sshd": without_sshd,
    "tmpfs": without_tmpfs,
}


class Node:
    """One agent process and what a test asks of it."""

    def __init__(
        self,
        root: Path,
        agent: str = "t",
        scratches: Path | None = None,
        backend: str = "process",
        inside: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.within = inside
        self.agent = agent
        self.scratches = scratches or root / "scratches"
        self.config = root / "agent.toml"
        places = {"root": root, "agent": agent, "scratches": self.scratches, "backend": backend}
        self.config.write_text(CONFIG.format(**places, examples=EXAMPLES))
        self.state = root / "var" / agent
        self.socket = self.state / "agent.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.log: list[str] = []

    def configure(self, text: str) -> None:
        """Add to the configuration before a start."""
        with self.config.open("a") as file:
            file.write(text)

    # ---- the process ----

    def start(self, *, ready: bool = True, **env: str) -> Node:
        """Start the agent; with `ready` wait until it serves."""
        self.process = subprocess.Popen(
            self.command(),
            stderr=subprocess.PIPE,
            bufsize=0,  # a line in Python's buffer would be invisible to the selector
            env={**os.environ, **env, MARK: str(self.root)},
        )
        if ready and not self.await_line("started handling RPC requests"):
            raise AssertionError("the agent did not start:\n" + "\n".join(self.log))
        return self

    def command(self) -> list[str]:
        """What starts the agent."""
        return [*self.within, AGENTCTL, "serve", "-f", str(self.config)]

    def await_line(self, wanted: str) -> bool:
        """Read the log until a line has this text; False when the agent ended before."""
        assert self.process is not None
        assert self.process.stderr is not None
        deadline = time.monotonic() + START_DEADLINE
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                line = self.process.stderr.readline()
                if not line:
                    return False
                self.log.append(line.decode().rstrip())
                if wanted in self.log[-1]:
                    return True
        return False

    def end(self, number: int = signal.SIGTERM, deadline: float = 20.0) -> int:
        """End the agent by a signal and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=deadline)
        self.log.extend(rest.decode().splitlines())
        code = self.process.returncode
        self.process = None
        return code

    def wait(self, deadline: float = 30.0) -> int:
        """Wait until the agent has ended by itself and return its exit code."""
        assert self.process is not None
        _, rest = self.process.communicate(timeout=deadline)
        self.log.extend(rest.decode().splitlines())
        code = self.process.returncode
        self.process = None
        return code

    # ---- the RPC ----

    def ask(self, method, *arguments, **keywords):
        """Call one method of the client."""

        async def call():
            async with AgentClient(str(self.socket)) as agent:
                return await getattr(agent, method)(*arguments, **keywords)

        return asyncio.run(self._while_it_lives(call()))

    def talk(self, conversation):
        """Hold a conversation with the agent: a coroutine function that is given the client."""

        async def call():
            async with AgentClient(str(self.socket)) as agent:
                return await conversation(agent)

        return asyncio.run(call())

    async def _while_it_lives(self, call):
        """Await a call no longer than the agent lives: a client would hope for another one."""
        if self.process is None:
            return await call
        died = asyncio.get_running_loop().create_future()
        pidfd = os.pidfd_open(self.process.pid)
        asyncio.get_running_loop().add_reader(pidfd, lambda: died.done() or died.set_result(None))
        calling = asyncio.ensure_future(call)
        try:
            await asyncio.wait({calling, died}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                await asyncio.wait({calling}, timeout=_LAST_WORDS)
            if not calling.done():
                calling.cancel()
                await asyncio.wait({calling})
                raise AgentUnreachable("the agent has ended meanwhile")
            return calling.result()
        finally:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def create(self, wait: bool = True, **spec):
        """Create a kernel of the python image, and wait until it runs."""
        spec = {"image": "python", "slots": {"cpu": "1", "mem": "64m"}, **spec}
        created = self.ask("create_kernel", spec)
        if wait:
            row = self.ask("wait_kernel", created.kernel_id, ["RUNNING"], timeout=30)
            assert row.state == "RUNNING", self.ask("get_kernel_status", created.kernel_id)
        return created.kernel_id

    def destroy(self, kernel_id: str):
        """Destroy a kernel and wait until it has ended."""
        self.ask("destroy_kernel", kernel_id)
        return self.ask("wait_kernel", kernel_id, ["TERMINATED"], timeout=30)

    def run(self, kernel_id: str, code: str, **options):
        """Run code; return stdout, stderr and the result."""

        async def collect():
            async with AgentClient(str(self.socket)) as agent:
                return [item async for item in agent.execute_code(kernel_id, code, **options)]

        items = asyncio.run(collect())
        said = [i for i in items if isinstance(i, OutputItem) and i.kind == "output"]
        stdout = "".join(i.text for i in said if i.stream == "stdout")
        stderr = "".join(i.text for i in said if i.stream == "stderr")
        return stdout, stderr, items[-1]

    def events(self, kernel_id=None):
        """All retained events."""

        async def collect():
            async with AgentClient(str(self.socket)) as agent:
                return [event async for event in agent.watch_events(kernel_id)]

        return asyncio.run(collect())

    def agentctl(self, *arguments: str, answer: str = "", code: int = 0) -> str:
        """Run agentctl as a person would, and return what it prints."""
        done = subprocess.run(
            [AGENTCTL, *arguments, "-f", str(self.config)],
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0):
        """Run agentctl for its JSON."""
        return json.loads(self.agentctl(*arguments, "--json", code=code))

    # ---- the world ----

    def used(self) -> dict[str, str]:
        """What is taken of each slot."""
        return {row.slot: row.used for row in self.ask("list_slots") if row.used != "0"}

    def processes(self) -> list[int]:
        """Processes of this node's kernels and shims, and workers whose agent has gone."""
        own = self.process.pid if self.process else None
        found = [pid for pid, words in self._mine() if b"agentctl" not in words[:200]]
        return sorted(set(found) - {own} - set(self.workers()))

    def await_shims(self) -> None:
        """Wait for the end of shims whose kernels have ended: they see it a moment later."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                shim = os.pidfd_open(pid)
                try:
                    assert _ends(shim), pid
                finally:
                    os.close(shim)

    def workers(self) -> list[int]:
        """The worker processes of the agent that runs."""
        own = self.process.pid if self.process else None
        workers = [pid for pid, words in self._mine() if b"agent_core.host.worker" in words]
        return [pid for pid in workers if own is not None and _parent(pid) == own]

    def _mine(self):
        """Yield each process that names this node's directory, with its words."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    if str(self.root).encode() in words:
                        yield int(entry.name), words

    def left(self) -> list[Path]:
        """What is left of kernels in the places for scratches and sockets."""
        places = (self.scratches, self.root / "run" / self.agent / "k")
        return [p for place in places for p in place.glob("*") if p.name != ".trash"]

    def clean(self) -> None:
        """Assert that nothing is left: no kernel, hold, slot, process, scratch or socket."""
        assert self.ask("list_kernels") == []
        assert self.ask("list_leaks") == []
        assert self.used() == {}
        assert self.processes() == []
        assert self.left() == []

    def leave(self) -> None:
        """End every kernel and the agent, and assert that each of them leaves nothing behind."""
        if self.process is not None and self.process.poll() is not None:
            self.end()
        if self.process is None and (self.state / "ledger.db").exists():
            self.start()
        if self.process is not None:
            for row in self.ask("list_kernels"):
                self.destroy(row.kernel_id)
            self.clean()
            workers = [os.pidfd_open(pid) for pid in self.workers()]
            try:
                self.end()
                assert all(map(_ends, workers))
            finally:
                for worker in workers:
                    os.close(worker)
        assert self.processes() == []
        assert self.left() == []


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _ends(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(END_DEADLINE_MS))


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Remember that a test has failed: what it leaves then is of no interest."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def nodes(request, tmp_path_factory):
    """Make nodes that are not started; each test has to leave nothing behind.

    A test that leaves something on purpose says so: ``@pytest.mark.leaves("why")``. Whatever is
    left all the same is ended with the test.
    """
    made: list[Node] = []

    def make(**options) -> Node:
        made.append(Node(tmp_path_factory.mktemp("n", numbered=True), **options))
        return made[-1]

    yield make
    mark = request.node.get_closest_marker("leaves")
    assert mark is None or mark.args, "a test that leaves something says why"
    try:
        for node in reversed(made):
            if mark is None and not request.node.stash.get(FAILED, False):
                node.leave()
    finally:
        for node in made:
            _end(node)


@pytest.fixture
def node(nodes):
    """A node that is not started, and that has to leave nothing behind; see `nodes`."""
    return nodes()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """The runner's bundle, as an agent makes it."""
    directory = tmp_path_factory.mktemp("bundles")
    DefaultRunner().bundle(str(directory))
    return directory


@pytest.fixture
def docker(own_engine, engine, proxies, nodes, bundles):
    """Make a node on the shared engine; each has an agent's name of its own."""
    made = []

    def make(agent="d", on=engine, text="", **options):
        made.append(DockerNode(nodes, on, bundles, agent, **options))
        made[-1].configure(text)
        return made[-1]

    return make


def _end(node: Node) -> None:
    """End all that a node still runs."""
    if node.process is not None:
        with contextlib.suppress(Exception):
            for row in node.ask("list_kernels"):
                node.destroy(row.kernel_id)
        node.end(signal.SIGKILL)
    for pid in node.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
