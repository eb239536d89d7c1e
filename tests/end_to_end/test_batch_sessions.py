"""Batch sessions: a command that is run once, told once, and never forgotten by any restart."""

import os
import signal
from pathlib import Path

import pytest

from agent_core.contracts.errors import InvalidArgument, InvalidSpec

OUTCOMES = ("session.success", "session.failure")


def batch(node, command, *, wait=True, **spec):
    """Begin a batch, and wait until it is over."""
    kernel = node.create(wait=False, startup_command=command, **spec)
    return ended(node, kernel) if wait else kernel


def ended(node, kernel):
    """Wait for the end of a kernel."""
    row = node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=60)
    assert row.state == "TERMINATED"
    return row


def outcomes(node, kernel):
    """What was told of a session: the event's name, its reason and its exit code."""
    told = [event for event in node.events(kernel) if event.name in OUTCOMES]
    return [(e.name, e.data.get("reason"), e.data.get("exit_code")) for e in told]


def read_fifo(path):
    """Wait until something is written to a FIFO, and read it."""
    return path.read_text()


@pytest.fixture
def fifos(tmp_path):
    """Two FIFOs: one that a command writes to once it runs, one that it waits at."""
    for name in ("begun", "go"):
        os.mkfifo(tmp_path / name)
    return tmp_path / "begun", tmp_path / "go"


@pytest.mark.parametrize(
    ("command", "timeout", "outcome"),
    [
        ("echo done", None, ("session.success", "task-finished", 0)),
        ("echo no >&2; exit 3", None, ("session.failure", "task-failed", 3)),
        ("kill -9 $$", None, ("session.failure", "task-failed", 137)),
        ("exec sleep 600", 0.3, ("session.failure", "task-timeout", 130)),
    ],
)
def test_a_batch_ends_its_kernel_and_is_told_once(node, command, timeout, outcome):
    node.start()
    bound = {"startup_timeout": timeout} if timeout else {}
    row = batch(node, command, **bound)
    assert (row.reason, row.exit_code) == outcome[1:]
    assert outcomes(node, row.kernel_id) == [outcome]
    names = [event.name for event in node.events(row.kernel_id)]
    assert names == [
        "kernel.preparing",
        "kernel.running",
        "kernel.terminating",
        outcome[0],
        "kernel.terminated",
    ]
    node.clean()


def test_what_a_batch_says_is_in_the_log_that_outlives_it(node):
    node.start()
    row = batch(node, "echo out; echo err >&2")
    log = node.agentctl("kernels", "logs", row.kernel_id)
    assert {"out", "err"} <= {*log.split()}


def test_a_batch_that_is_destroyed_or_interrupted_has_failed(node, fifos):
    node.start()
    command = f"echo > {fifos[0]}; exec sleep 600"
    destroyed = batch(node, command, wait=False)
    read_fifo(fifos[0])
    node.destroy(destroyed)
    assert outcomes(node, destroyed) == [("session.failure", "user-requested", None)]
    interrupted = batch(node, command, wait=False)
    read_fifo(fifos[0])
    node.ask("interrupt_kernel", interrupted)
    assert ended(node, interrupted).reason == "task-cancelled"
    assert outcomes(node, interrupted) == [("session.failure", "task-cancelled", 130)]
    node.clean()


def test_a_batch_goes_on_while_the_agent_is_killed_and_its_end_is_not_missed(node, fifos):
    begun, go = fifos
    node.start()
    kernel = batch(node, f"echo > {begun}; cat {go}; echo 1 >> runs; exit 5", wait=False)
    read_fifo(begun)
    node.end(signal.SIGKILL)
    go.write_text("go\n")
    node.start()
    assert ended(node, kernel).exit_code == 5
    assert outcomes(node, kernel) == [("session.failure", "task-failed", 5)]
    assert node.agentctl("kernels", "logs", kernel).count("go") == 1
    node.clean()


def test_a_batch_outlives_an_agent_that_stops_and_runs_once(node, fifos):
    begun, go = fifos
    node.start()
    kernel = batch(node, f"echo > {begun}; cat {go}", wait=False)
    read_fifo(begun)
    assert node.end() == 0
    node.start()
    assert node.ask("get_kernel_status", kernel).state == "RUNNING"
    go.write_text("once\n")
    assert ended(node, kernel).reason == "task-finished"
    assert node.agentctl("kernels", "logs", kernel).count("once") == 1
    assert outcomes(node, kernel) == [("session.success", "task-finished", 0)]
    node.clean()


@pytest.mark.parametrize(
    "point", ["kernel-running.before", "kernel-terminating.before", "kernel-terminating.after"]
)
def test_a_crash_around_the_end_of_a_batch_neither_doubles_nor_loses_its_outcome(node, point):
    node.start(AGENT_FAILPOINTS=f"commit.{point}=kill")
    kernel = "batch"
    node.ask(
        "create_kernel", {"image": "python", "kernel_id": kernel, "startup_command": "echo once"}
    )
    assert node.wait() == -signal.SIGKILL
    node.start()
    row = ended(node, kernel)
    [(name, reason, _)] = outcomes(node, kernel)
    assert reason == row.reason
    whole = point.startswith("kernel-terminating")
    assert (name, reason) == (
        ("session.success", "task-finished") if whole else ("session.failure", "create-interrupted")
    )
    node.clean()


def test_a_restart_runs_the_command_again_from_its_beginning(node, fifos):
    begun, _ = fifos
    node.start()
    command = f"[ -e first ] && exit 0; touch first; echo > {begun}; exec sleep 600"
    kernel = batch(node, command, wait=False)
    read_fifo(begun)
    node.ask("restart_kernel", kernel)
    assert ended(node, kernel).reason == "task-finished"
    assert outcomes(node, kernel) == [("session.success", "task-finished", 0)]
    node.clean()


def test_a_session_ends_with_the_command_of_its_first_kernel_once_all_of_it_runs(node):
    node.start()
    spec = {"image": "python", "slots": {"mem": "64m"}}
    first = {**spec, "startup_command": "getent hosts sub1 || true; exit 4"}
    created = node.ask("create_session", [first, spec])
    rows = [ended(node, kernel.kernel_id) for kernel in created.kernels]
    assert [row.reason for row in rows] == ["task-failed", "session-ended"]
    told = [e for e in node.events() if e.name in OUTCOMES]
    assert [(e.name, e.session_id) for e in told] == [("session.failure", created.session_id)]
    states = [e.name for e in node.events(rows[1].kernel_id)]
    assert "kernel.running" in states
    node.clean()


def test_the_command_finds_what_the_bootstrap_script_has_prepared(node):
    node.start()
    script = "echo prepared > result\n"
    row = batch(node, "cat result", bootstrap_script=script)
    assert row.reason == "task-finished"
    assert "prepared" in node.agentctl("kernels", "logs", row.kernel_id)
    node.clean()


def test_runs_are_listed_whoever_asked_for_them(node, fifos):
    begun, go = fifos
    node.start()
    kernel = batch(node, f"echo > {begun}; cat {go}", wait=False)
    read_fifo(begun)
    with pytest.raises(InvalidArgument, match="is of the agent's own"):
        node.run(kernel, "1", run_id="batch-job")
    [job] = node.ask("list_runs", kernel)
    assert (job.run_id, job.mode, job.status) == ("batch-job", "batch", None)
    assert job.code.startswith("echo > ")
    printed = node.agentctl("kernels", "runs", kernel)
    assert printed.splitlines()[0].split() == [
        "RUN", "MODE", "STARTED", "TOOK", "STATUS", "EXIT", "CODE",
    ]  # fmt: skip
    go.write_text("")
    ended(node, kernel)


def test_as_a_person_asks_for_a_batch(node, tmp_path):
    node.start()
    script = tmp_path / "setup.sh"
    script.write_text("echo ready > state\n")
    asked = ("kernels", "create", "--image", "python", "--slot", "mem=64m")
    kernel = node.agentctl(
        *asked, "--startup-command", "grep ready state", "--bootstrap", str(script)
    ).strip()
    assert node.agentctl("kernels", "wait", kernel) == (
        f"{kernel}  TERMINATED (task-finished, exit code 0)\n"
    )
    failing = node.json(*asked, "--startup-command", "exit 9", "--no-wait")["kernel_id"]
    assert "(task-failed, exit code 9)" in node.agentctl("kernels", "wait", failing, code=1)
    said = node.agentctl(*asked, "--bootstrap", str(tmp_path / "no"), code=2)
    assert "No such file or directory" in said
    session = node.agentctl(
        "sessions", "create", "--image", "python", "--slot", "mem=64m", "--size", "2",
        "--startup-command", "true", "--session-id", "train",
    )  # fmt: skip
    assert [line.split()[0] for line in session.splitlines()] == ["train", "train"]
    with pytest.raises(InvalidSpec, match="startup_timeout"):
        node.ask("create_kernel", {"image": "python", "startup_timeout": 5})
    for row in node.ask("list_kernels"):
        ended(node, row.kernel_id)
    node.clean()


def test_scripts_and_commands_survive_any_character(node):
    node.start()
    strange = "päth 'with' \"quotes\" $HOME \\ and\nlines"
    row = batch(node, f"cat > out <<'END'\n{strange}\nEND\ncat out", bootstrap_script=": 'ü'\n")
    assert strange in node.agentctl("kernels", "logs", row.kernel_id)
    assert not [*Path(node.scratches).rglob("out")]
