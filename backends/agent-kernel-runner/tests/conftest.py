"""A small agent that speaks the runner protocol, and a real runner process beside it."""

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from agent_core.contracts.runner import LaunchContext

from agent_kernel_runner.plugin import DefaultRunner

DEADLINE = 20.0


def without_ipykernel():
    """Say why there is no Jupyter kernel to test with; None when there is one."""
    there = importlib.util.find_spec("ipykernel")
    return None if there else "ipykernel is not installed in the environment of the tests"


NEEDS = {"ipykernel": without_ipykernel}


def pytest_runtest_setup(item):
    """Skip a test with its reason where something is missing, or fail it where that must be."""
    for name in (name for mark in item.iter_markers("requires") for name in mark.args):
        missing = NEEDS[name]() if name in NEEDS else None
        if missing:
            required = os.environ.get("AGENT_TESTS_REQUIRE", "").replace(",", " ").split()
            (pytest.fail if name in required else pytest.skip)(missing)


def frame(message):
    body = json.dumps(message, ensure_ascii=False).encode()
    return struct.pack(">I", len(body)) + body


class Agent:
    """The agent's side: one listener, one connection at a time, everything received in order.

    It acknowledges and credits by itself unless told otherwise, takes each number once, and keeps
    what it sees: `messages` (each once), `hellos`, `duplicates` and `gaps`.
    """

    def __init__(self, path):
        self.path = path
        self.auto_ack = True
        self.auto_credit = True
        self.window = 1 << 20
        self.changed = threading.Condition()
        self.messages = []
        self.hellos = []
        self.duplicates = []
        self.gaps = []
        self.received = 0
        self.acked = None
        self.longest = 0
        self.keep_text = True
        self.connection = None
        self.listener = None
        self._ids = itertools.count(1)

    def listen(self):
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, EOFError), connection.makefile("rb") as stream:
            hello = self._read(stream)
            assert hello["type"] == "hello"
            with self.changed:
                self.hellos.append(hello)
                self.changed.notify_all()
            greeting = self.greeting(hello)
            connection.sendall(frame(greeting))
            if greeting["type"] != "hello" or greeting["protocol"] != 1:
                stream.read()
                raise EOFError  # as it should be: the runner has hung up
            if self.auto_credit:
                connection.sendall(frame({"type": "credit", "bytes": self.window}))
            with self.changed:
                self.connection = connection
                self.changed.notify_all()
            while True:
                self._take(connection, self._read(stream))
        connection.close()
        with self.changed:
            if self.connection is connection:
                self.connection = None
            self.changed.notify_all()

    def greeting(self, hello):
        """What to say to a runner that has said hello."""
        acked = self.received if self.acked is None else self.acked
        return {"type": "hello", "protocol": 1, "acked": acked}

    def _read(self, stream):
        header = stream.read(4)
        if len(header) < 4:
            raise EOFError
        (length,) = struct.unpack(">I", header)
        self.longest = max(self.longest, length)
        body = stream.read(length)
        if len(body) < length:
            raise EOFError
        return json.loads(body)

    def _take(self, connection, message):
        size = len(message.get("text", "").encode())
        with self.changed:
            self._record(message, size)
            # Before anybody learns of it: a test that has seen it relies on its acknowledgement.
            try:
                if self.auto_ack:
                    connection.sendall(frame({"type": "ack", "seq": message["seq"]}))
                if self.auto_credit and size:
                    connection.sendall(frame({"type": "credit", "bytes": size}))
            finally:
                self.changed.notify_all()

    def _record(self, message, size):
        last = self.received
        if message["seq"] <= last:
            self.duplicates.append(message)
            return
        if message["seq"] != last + 1 and last:
            self.gaps.append((last, message["seq"]))
        self.received = message["seq"]
        if not self.keep_text and message["type"] == "output":
            message = {**message, "text": "", "size": size}
        self.messages.append(message)

    def wait(self, condition, timeout=DEADLINE, what="it"):
        with self.changed:
            assert self.changed.wait_for(condition, timeout), f"{what}: {self.messages[-5:]}"

    def connected(self):
        self.wait(lambda: self.connection is not None, what="never connected")

    def disconnected(self):
        self.wait(lambda: self.connection is None, what="still connected")

    def send(self, **message):
        self.connected()
        self.connection.sendall(frame(message))

    def send_bytes(self, data):
        self.connected()
        self.connection.sendall(data)

    def hang_up(self):
        """Close the connection, but keep listening."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def leave(self):
        """Stop listening and hang up, as an agent that ends does."""
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()

    def execute(self, code, mode="query", options=None, timeout=None, run_id=None):
        run_id = run_id or f"run-{next(self._ids)}"
        self.send(
            type="execute",
            run_id=run_id,
            mode=mode,
            code=code,
            options=options or {},
            timeout=timeout,
        )
        return run_id

    def of(self, run_id, kind=None):
        return [
            message
            for message in self.messages
            if message.get("run_id") == run_id and kind in (None, message["type"])
        ]

    def text(self, run_id, stream="stdout"):
        outputs = self.of(run_id, "output")
        return "".join(item["text"] for item in outputs if item["stream"] == stream)

    def await_kind(self, run_id, kind, timeout=DEADLINE, count=1):
        self.wait(lambda: len(self.of(run_id, kind)) >= count, timeout, f"no {kind} of {run_id}")
        return self.of(run_id, kind)[count - 1]

    def await_text(self, run_id, text, stream="stdout"):
        self.wait(lambda: text in self.text(run_id, stream), what=f"no {text!r} of {run_id}")

    def finish(self, run_id, timeout=DEADLINE):
        """Wait for a run's end; return status, exit code, stdout and stderr."""
        end = self.await_kind(run_id, "finished", timeout)
        return end["status"], end["exit_code"], self.text(run_id), self.text(run_id, "stderr")

    def run(self, code, **options):
        return self.finish(self.execute(code, **options))


class Kernel:
    """A kernel's directories, its agent, and its runner as a process of its own."""

    def __init__(self, root, runtime_type="python", runtime_path="/usr/bin/python3", grace=0.5):
        self.root = root
        self.dirs = {name: root / name for name in ("run", "work", "state")}
        for directory in self.dirs.values():
            directory.mkdir()
        self.work = self.dirs["work"]
        self.state = self.dirs["state"]
        self.log = root / "log"
        self.context = LaunchContext(
            kernel_id="kernel-1",
            incarnation=1,
            run_dir=str(self.dirs["run"]),
            work_dir=str(self.work),
            state_dir=str(self.state),
            runtime_type=runtime_type,
            runtime_path=runtime_path,
        )
        self.runner = DefaultRunner()
        self.runner.open({"interrupt-grace": grace})
        self.agent = Agent(self.dirs["run"] / "runner.sock")
        self.process = None

    def start(self):
        argv = self.runner.launch(self.context).argv
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def up(self):
        self.agent.listen()
        self.start()
        self.agent.connected()
        return self

    def kill(self):
        """Kill the daemon alone, as a crash would."""
        self.process.kill()
        self.process.wait()

    def down(self):
        if self.agent.listener is not None:
            self.agent.leave()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        shutil.rmtree(self.root, ignore_errors=True)

    def journal(self):
        return self.log.read_text(errors="replace")

    def interpreter(self):
        """The pid of the interpreter, asked of itself."""
        return int(self.agent.run("import os; os.getpid()")[2])


class Asking:
    """What an agent asks a running kernel about what listens on one of its ports."""

    def __init__(self, kernel, port):
        self.kernel, self.agent, self.port = kernel, kernel.agent, port
        self.asked = 0

    def ask(self, kind, **fields):
        self.asked += 1
        run_id = f"{kind}-{self.asked}"
        self.agent.send(type=kind, run_id=run_id, **fields)
        return run_id


def until(condition, what="it did not come true"):
    """Wait for something outside the protocol, such as the end of a process."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def make_kernel():
    """Make kernels whose runner is not started yet; they are ended with the test."""
    kernels = []

    def make(**options):
        # A socket's path holds 107 bytes, and pytest's own directories can be longer.
        kernel = Kernel(Path(tempfile.mkdtemp(prefix="runner-")), **options)
        kernels.append(kernel)
        return kernel

    yield make
    for kernel in kernels:
        kernel.down()


@pytest.fixture
def kernel(make_kernel):
    """A running Python kernel."""
    return make_kernel().up()


@pytest.fixture
def agent(kernel):
    """The agent of the running Python kernel."""
    return kernel.agent


@pytest.fixture
def wait_until():
    return until


@pytest.fixture
def is_alive():
    return alive


@pytest.fixture
def kill_quietly():
    """Kill processes that the test's own code started."""
    pids = []
    yield pids.append
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
