"""Hostile code in one kernel of a real node: the agent and the other kernel do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import pytest

from agent_core.client import AgentClient
from agent_core.contracts.errors import AgentError, KernelFailed
from agent_core.wire.models import OutputItem

GROWTH = 48 << 20
"""Bytes that an agent's memory may grow under attack: what bounds it, and Python's own slack."""


@pytest.fixture
def watched(node):
    """A started node with two kernels; afterwards its agent is as it was, and nothing is left."""
    node.start()
    node.hostile, node.honest = node.create(), node.create()
    node.run(node.honest, "print('warm')")
    node.run(node.hostile, "print('warm')")
    node.vitals = Vitals(node.process.pid)
    yield node
    assert node.run(node.honest, "print('alive')")[0] == "alive\n"
    node.vitals.assert_flat()
    for row in node.ask("list_kernels"):
        node.destroy(row.kernel_id)
    node.clean()


class Vitals:
    """The memory and the descriptors of a process, against what they were."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory, self.descriptors = self.now()

    def now(self) -> tuple[int, int]:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize(), len([*Path(f"/proc/{self.pid}/fd").iterdir()])

    def assert_flat(self) -> None:
        """Assert that it is as it was, once it has let go of what has ended."""
        wait_for(lambda: self.now()[1] <= self.descriptors + 4)
        assert self.now()[0] - self.memory < GROWTH


@contextlib.contextmanager
def others_served(node):
    """Run code in the honest kernel again and again meanwhile; it is answered every time."""
    over, answers = threading.Event(), []

    def ask():
        while not over.is_set() or not answers:
            answers.append(node.run(node.honest, "print(6 * 7)")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        over.set()
        asking.join(60)
    assert set(answers) == {"42\n"}


# What code in a kernel finds of its runner's socket, and how it speaks over it.
SPEAK = textwrap.dedent(
    """
    import json, os, socket, time
    words = open(f'/proc/{os.getppid()}/cmdline').read().split('\\0')
    facts = dict(word.split('=', 1) for word in words if '=' in word)
    path = facts['run_dir'] + '/runner.sock'

    def connect():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(path)
        return s

    def frame(message):
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return len(body).to_bytes(4, 'big') + body

    def hello(**changes):
        return frame({'type': 'hello', 'protocol': 1, 'pid': 1, 'runs': [],
            'kernel_id': facts['kernel_id'], 'incarnation': int(facts['incarnation']), **changes})

    def turned_away(data):
        with connect() as s:
            s.sendall(data)
            return s.recv(1) == b''
    """
)


@pytest.mark.parametrize(
    "greeting",
    ["hello()", "hello(kernel_id=OTHER)", "hello(incarnation=7)", "hello(protocol=99)"],
)
def test_a_false_hello_is_turned_away_and_the_runner_stays(watched, greeting):
    code = f"{SPEAK}\nOTHER = {watched.honest!r}\nprint(turned_away({greeting}))"
    assert watched.run(watched.hostile, code)[0] == "True\n"
    shown = watched.ask("get_kernel_status", watched.hostile)
    assert shown.runner == "connected"
    assert any("socket was misused, 1 times" in line for line in shown.warnings)


@pytest.mark.parametrize(
    "data",
    [
        "bytes(4)",
        "b'\\xff' * 4",
        "frame(b'[' * 100_000)",
        "frame(b'9' * 100_000)",
        "frame(b'\\xff\\xfe')",
        "hello(pid=[])",
        "hello(runs=[[]] * 100_000)",
        "hello(incarnation=10**400)",
    ],
)
def test_what_is_no_hello_is_turned_away(watched, data):
    assert watched.run(watched.hostile, f"{SPEAK}\nprint(turned_away({data}))")[0] == "True\n"


def test_a_flood_of_half_open_connections_takes_few_descriptors(watched):
    code = SPEAK + textwrap.dedent(
        """
        held, refused = [], 0
        for _ in range(5000):
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect(path)
                held.append(s)
            except BlockingIOError:
                s.close()
                refused += 1
        time.sleep(1)
        print(len(held), refused)
        held.clear()
        """
    )
    vitals = Vitals(watched.process.pid)
    seen = []
    with others_served(watched):
        stop = threading.Event()
        looking = threading.Thread(target=_look, args=(vitals, seen, stop))
        looking.start()
        held, refused = map(int, watched.run(watched.hostile, code)[0].split())
        stop.set()
        looking.join()
    assert held + refused == 5000
    assert refused > 4000
    assert max(seen) - vitals.descriptors < 32


def _look(vitals, seen, stop):
    while not stop.wait(0.01):
        seen.append(vitals.now()[1])


def test_a_flood_of_connections_that_end_at_once_is_served_slowly(watched):
    code = SPEAK + textwrap.dedent(
        """
        until, tried = time.monotonic() + 3, 0
        while time.monotonic() < until:
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect(path)
                s.send(hello())
            except OSError:
                pass
            s.close()
            tried += 1
        print(tried)
        """
    )
    with others_served(watched):
        assert int(watched.run(watched.hostile, code)[0]) > 1000
    assert watched.run(watched.hostile, "print('still here')")[0] == "still here\n"


# Takes its runner's place: stops it, and ends its connection by way of its own descriptor.
USURP = SPEAK + textwrap.dedent(
    """
    import ctypes, signal, struct
    RUNNER, GETFD = os.getppid(), 438

    def end_connection():
        pidfd = os.pidfd_open(RUNNER)
        for fd in map(int, os.listdir(f'/proc/{RUNNER}/fd')):
            stolen = ctypes.CDLL(None).syscall(GETFD, pidfd, fd, 0)
            if stolen < 0:
                continue
            try:
                s = socket.socket(fileno=stolen)
                if s.family == socket.AF_UNIX and s.getpeername() == path:
                    s.shutdown(socket.SHUT_RDWR)
                    return True
            except OSError:
                pass
        return False

    def read(s):
        size = int.from_bytes(s.recv(4, socket.MSG_WAITALL), 'big')
        return json.loads(s.recv(size, socket.MSG_WAITALL))

    def usurp():
        os.kill(RUNNER, signal.SIGSTOP)
        if not end_connection():
            return None
        while True:
            s = connect()
            s.sendall(hello(stream='mine'))
            try:
                return s, read(s)['acked']
            except ValueError:  # the agent has not yet seen the other one end
                time.sleep(0.02)
    """
)

FLOODS = {
    "prompts": "{'type': 'waiting-input', 'prompt': 'x' * 60000, 'password': False}",
    "ends of no run": "{'type': 'finished', 'status': 'finished', 'exit_code': 0}",
    "output of no run": "{'type': 'output', 'stream': 'stdout', 'text': 'x' * 30000}",
    "unknown types": "{'type': 'splendid', 'text': 'x' * 60000}",
    "numbers long past": "{'type': 'started', 'seq': 1}",
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_in_the_place_of_the_runner_is_bounded(watched, flood):
    code = USURP + textwrap.dedent(
        f"""
        def flood(s, seq):
            until, said = time.monotonic() + 4, 0
            while time.monotonic() < until:
                seq, said = seq + 1, said + 1
                s.sendall(frame({{'run_id': 'x', 'seq': seq, **{flood}}}))
            return said

        if not os.fork():
            os.setsid()
            place = usurp()
            said = flood(*place) if place else 'not permitted'
            open('saying', 'w').write(str(said))
            os.rename('saying', 'said')
            os._exit(0)
        """
    )
    said = watched.root / "scratches" / watched.hostile / "work" / "said"
    with others_served(watched):
        watched.run(watched.hostile, code)
        wait_for(said.exists)
    if said.read_text() == "not permitted":
        pytest.skip("this machine lets no process take another's descriptors")
    assert int(said.read_text()) > 0


def wait_for(ready, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---- the runner ----------------------------------------------------------------------------------

KILL = "import os, time; os.kill(os.getppid(), 9); time.sleep(60)"
KILL_LATER = """
import os, time
runner = os.getppid()
if not os.fork():
    time.sleep(0.5)
    os.kill(runner, 9)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("code", "options"),
    [
        (KILL, {}),
        ("kill -9 $PPID; sleep 60", {"mode": "batch"}),
        (f"{KILL_LATER}\ninput('? ')", {}),
    ],
    ids=["a query", "a batch", "an input"],
)
def test_a_runner_that_is_killed_ends_its_kernel_and_no_other(watched, code, options):
    with others_served(watched), pytest.raises(KernelFailed, match="has ended"):
        watched.run(watched.hostile, code, **options)
    row = watched.ask("wait_kernel", watched.hostile, ["TERMINATED"], timeout=20)
    assert (row.reason, row.exit_code) == ("self-terminated", 137)


def test_a_runner_that_is_killed_between_runs_ends_its_kernel(watched):
    watched.run(watched.hostile, KILL_LATER)
    row = watched.ask("wait_kernel", watched.hostile, ["TERMINATED"], timeout=20)
    assert (row.reason, row.exit_code) == ("self-terminated", 137)


def test_a_run_with_a_timeout_ends_for_its_caller_though_its_runner_is_stopped(watched):
    stop = "import os, signal; os.kill(os.getppid(), signal.SIGSTOP)"
    with others_served(watched):
        results = [watched.run(watched.hostile, stop, timeout=0.5)[-1]]
        results.append(watched.run(watched.hostile, "1", timeout=0.5)[-1])
    assert [r.status for r in results] == ["exec-timeout"] * 2
    assert watched.destroy(watched.hostile).state == "TERMINATED"


# ---- processes without end -----------------------------------------------------------------------

BOUND = 64
BOMB = f"""
import os, time
groups = dict(line.strip().split(':', 2)[1:] for line in open('/proc/self/cgroup'))
place = '/pids' + groups['pids'] if 'pids' in groups else groups['']
try:
    bound = open('/sys/fs/cgroup' + place + '/pids.max').read().strip()
except OSError:
    bound = 'unknown'
if bound == '{BOUND}':
    while True:
        try:
            if not os.fork():
                os.setsid()
        except OSError:
            time.sleep(0.1)
print(bound)
"""


def test_a_fork_bomb_stays_in_its_kernel_and_ends_with_it(node):
    node.configure(f"\n[plugin.process]\npids-limit = {BOUND}\n")
    if not node.start(ready=False).await_line("started handling RPC requests"):
        assert "processes can be bounded" in "\n".join(node.log)
        node.wait()
        pytest.skip("this machine lets the agent make no cgroup with a pids controller")
    node.hostile, node.honest = node.create(), node.create()
    with others_served(node) as answers:

        def detonate():
            with contextlib.suppress(AgentError):
                assert node.run(node.hostile, BOMB)[0] == ""

        exploding = threading.Thread(target=detonate)
        exploding.start()
        wait_for(lambda: len(node.processes()) >= BOUND)
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 3)
        assert node.destroy(node.hostile).state == "TERMINATED"
        exploding.join(30)
    node.destroy(node.honest)
    node.clean()


# ---- output and runs without end -----------------------------------------------------------------

VOLUME = int(os.environ.get("AGENT_TESTS_OUTPUT_BYTES", 1 << 30))
RUNS = int(os.environ.get("AGENT_TESTS_RUNS", 2000))


def test_output_of_any_size_passes_and_leaves_a_bounded_log(watched):
    """1 GiB; 10 GB with AGENT_TESTS_OUTPUT_BYTES=10000000000."""

    async def count():
        said = 0
        async with AgentClient(str(watched.socket)) as agent:
            command = f"yes {'x' * 1023} | head -c {VOLUME}"
            run = agent.execute_code(watched.hostile, command, mode="batch")
            async for item in run:
                said += len(item.text) if isinstance(item, OutputItem) and item.text else 0
        return said, item

    with others_served(watched):
        said, result = asyncio.run(count())
    assert (said, result.exit_code) == (VOLUME, 0)
    assert stored(watched) < 12 << 20
    log = watched.agentctl("kernels", "logs", watched.hostile)
    assert "bytes of output dropped" in log


def stored(node):
    """Bytes of the containers' logs and records."""
    return sum(p.stat().st_size for p in (node.root / "var").rglob("log/*"))


def test_output_that_nobody_reads_waits_and_the_agent_does_not_grow(watched):
    async def stalled():
        async with AgentClient(str(watched.socket)) as agent:
            run = agent.execute_code(watched.hostile, "yes", mode="batch")
            await anext(run)
            await asyncio.to_thread(serve_others)
            await run.aclose()

    def serve_others():
        with others_served(watched) as answers:
            wait_for(lambda: len(answers) > 20)

    asyncio.run(stalled())
    assert watched.run(watched.hostile, "print('still here')")[0] == "still here\n"


def test_many_runs_leave_nothing_behind(watched):
    """2,000 runs; 10,000 with AGENT_TESTS_RUNS=10000."""
    runner = Vitals(int(watched.run(watched.hostile, "import os; print(os.getppid())")[0]))
    statuses = asyncio.run(pipelined(watched, RUNS))
    assert statuses == {"finished"}
    runner.assert_flat()
    scratch = watched.root / "scratches" / watched.hostile
    assert [*(scratch / "config" / "runner").rglob("*.json")] == []
    assert stored(watched) < 12 << 20


async def pipelined(node, total):
    numbers, statuses = iter(range(total)), set()
    async with AgentClient(str(node.socket)) as agent:

        async def work(mode, code):
            for number in numbers:
                run = agent.execute_code(node.hostile, code, run_id=f"n{number}", mode=mode)
                async for item in run:
                    last = item
                statuses.add(last.status)

        workers = [work("query", "print('x')") for _ in range(7)]
        await asyncio.gather(*workers, work("batch", "echo x"))
    return statuses


# ---- disk ----------------------------------------------------------------------------------------


def test_code_that_wrecks_its_run_directory_loses_its_own_link_and_no_more(watched):
    code = SPEAK + textwrap.dedent(
        """
        os.unlink(path)
        os.makedirs(path + '/deep/deeper')
        os.symlink('/', facts['run_dir'] + '/root')
        os.chmod(path + '/deep', 0)
        """
    )
    assert watched.run(watched.hostile, code)[-1].exit_code == 0
    watched.end()
    watched.start()
    assert watched.run(watched.honest, "print('alive')")[0] == "alive\n"
    assert watched.ask("get_kernel_status", watched.hostile).runner == "none"
    watched.vitals = Vitals(watched.process.pid)
    assert watched.destroy(watched.hostile).reason == "user-requested"


@pytest.fixture
def small_disk(node):
    """Scratch on a disk of 8 MiB of the test's own."""
    place = node.root / "scratches"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=True)
    yield node
    for row in node.ask("list_kernels"):
        node.destroy(row.kernel_id)
    node.clean()
    node.end()
    subprocess.run(["umount", place], check=True)


@pytest.mark.requires("tmpfs")
def test_a_kernel_that_fills_the_scratch_disk_stops_no_other(small_disk):
    node = small_disk.start()
    hostile, honest = node.create(), node.create()
    _, said, result = node.run(hostile, "open('all', 'wb').write(bytes(16 << 20))")
    assert "No space left on device" in said
    assert result.exit_code == 1
    assert node.run(honest, "print('alive')")[0] == "alive\n"
    node.destroy(hostile)
    assert node.run(node.create(), "open('some', 'wb').write(bytes(1 << 20))")[-1].exit_code == 0
