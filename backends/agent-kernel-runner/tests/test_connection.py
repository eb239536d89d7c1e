"""The conversation with the agent: lost, garbled, slow, and taken up again without loss."""

import os
import re
import signal
import struct
import threading
from dataclasses import replace
from pathlib import Path

import pytest

COUNT = "for n in range({}): print(n)"


def numbers(count):
    return "".join(f"{number}\n" for number in range(count))


def test_the_hello_says_whose_runner_this_is(kernel):
    hello = kernel.agent.hellos[0]
    assert hello["protocol"] == 1
    assert (hello["kernel_id"], hello["incarnation"]) == ("kernel-1", 1)
    assert hello["pid"] == kernel.process.pid
    assert hello["runs"] == []


def test_the_runner_waits_for_an_agent_that_comes_later(make_kernel):
    kernel = make_kernel()
    kernel.start()
    kernel.agent.listen()
    kernel.agent.connected()
    assert kernel.agent.run("1")[2] == "1\n"


def test_losing_the_connection_again_and_again_loses_and_doubles_nothing(agent):
    run = agent.execute(COUNT.format(200_000))
    for _ in range(8):
        seen = len(agent.messages)
        agent.wait(lambda seen=seen: len(agent.messages) > seen + 3 or agent.of(run, "finished"))
        agent.hang_up()
        agent.connected()
    assert agent.finish(run) == ("finished", 0, numbers(200_000), "")
    assert agent.gaps == []


def test_what_was_not_acknowledged_is_sent_again(agent):
    agent.auto_ack = False
    run = agent.execute(COUNT.format(10))
    agent.finish(run)
    count = len(agent.messages)
    agent.acked = 0  # an agent that has started anew has safely received nothing
    agent.hang_up()
    agent.connected()
    assert run in agent.hellos[-1]["runs"]
    agent.wait(lambda: len(agent.duplicates) == count)
    agent.send(type="ack", seq=agent.received)
    agent.acked = None
    agent.auto_ack = True
    assert agent.run("1")[2] == "1\n"
    agent.hang_up()
    agent.connected()
    assert agent.hellos[-1]["runs"] == []
    assert len(agent.duplicates) == count


def test_a_run_goes_on_while_the_agent_is_away(kernel):
    agent = kernel.agent
    os.mkfifo(kernel.work / "gate")
    run = agent.execute("print('up'); print(open('gate').read()); print('end')")
    agent.await_text(run, "up")
    agent.leave()
    (kernel.work / "gate").write_text("through")
    agent.listen()
    assert agent.finish(run) == ("finished", 0, "up\nthrough\nend\n", "")


def test_output_beyond_the_bound_is_dropped_and_counted_while_the_agent_is_away(kernel):
    agent = kernel.agent
    os.mkfifo(kernel.work / "gate")
    code = "print('up')\nopen('gate').read()\n"
    code += "for _ in range(300): print('x' * 99_999)\nopen('over', 'w').close()"
    run = agent.execute(code)
    agent.await_text(run, "up")
    agent.leave()
    (kernel.work / "gate").write_text("")
    until_exists(kernel.work / "over")
    agent.listen()
    assert agent.finish(run)[:2] == ("finished", 0)
    kept = len(agent.text(run))
    dropped = sum(message["bytes"] for message in agent.of(run, "truncated"))
    assert kept + dropped == 300 * 100_000 + len("up\n")
    assert 3 << 20 < kept <= 4 << 20
    assert agent.gaps == []


def until_exists(path):
    """Wait for a file that the kernel's code makes."""
    waiting = threading.Event()
    for _ in range(2000):
        if path.exists():
            return
        waiting.wait(0.01)
    raise AssertionError(f"{path} was never made")


def test_code_waits_while_an_agent_that_is_there_gives_no_credit(kernel):
    agent = kernel.agent
    agent.auto_credit = False
    agent.window = 0
    agent.hang_up()
    agent.connected()
    run = agent.execute("print('x' * 2_000_000)\nopen('over', 'w').close()")
    agent.await_kind(run, "started")
    assert agent.text(run) == ""
    agent.send(type="credit", bytes=100_000)
    agent.wait(lambda: len(agent.text(run)) == 100_000)
    assert not (kernel.work / "over").exists()
    agent.send(type="credit", bytes=10_000_000)
    assert agent.finish(run)[:2] == ("finished", 0)
    assert len(agent.text(run)) == 2_000_001
    assert agent.of(run, "truncated") == []


def test_an_agent_that_acknowledges_nothing_holds_the_output_at_the_bound(kernel):
    agent = kernel.agent
    agent.auto_ack = False
    agent.window = 64 << 20
    agent.hang_up()
    agent.connected()
    run = agent.execute("for _ in range(80): print('x' * 99_999)")
    agent.wait(lambda: len(agent.text(run)) > 4_000_000)
    assert len(agent.text(run)) <= 4 << 20
    agent.auto_ack = True
    agent.send(type="ack", seq=agent.received)
    assert agent.finish(run)[:2] == ("finished", 0)
    assert len(agent.text(run)) == 8_000_000


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        struct.pack(">I", 5) + b"hello",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 4) + b"null",
        struct.pack(">I", 1 << 20) + b"{" * (1 << 20),
    ],
    ids=["too long", "no json", "no object", "null", "deep"],
)
def test_garbage_ends_the_connection_and_the_runner_comes_again(agent, garbage):
    run = agent.execute("input()")
    agent.await_kind(run, "waiting-input")
    agent.send_bytes(garbage)
    agent.wait(lambda: len(agent.hellos) == 2)
    agent.connected()
    agent.send(type="input", run_id=run, text="after all")
    assert agent.finish(run)[2] == "'after all'\n"


def test_unknown_and_malformed_messages_are_ignored(agent):
    agent.send(type="from-the-future", anything=[1, 2])
    agent.send(type="input")
    agent.send(type="interrupt", run_id=["odd"])
    agent.send(type="cancel", run_id=None)
    agent.send(type="complete", run_id=5, code=None, cursor="end")
    agent.send(type="execute", run_id="../../etc/passwd", mode="query", code="1")
    agent.send(type="ack", seq="all")
    agent.send(type="credit", bytes=-5)
    agent.send(type="credit", bytes=True)
    assert agent.run("1") == ("finished", 0, "1\n", "")
    assert len(agent.hellos) == 1


@pytest.mark.parametrize(
    "first", [{"type": "execute"}, {"type": "hello", "protocol": 99, "acked": 0}]
)
def test_an_agent_that_greets_wrongly_is_left_and_asked_again(make_kernel, first):
    kernel = make_kernel()
    agent = kernel.agent
    greet, agent.greeting = agent.greeting, lambda hello: first
    agent.listen()
    kernel.start()
    agent.wait(lambda: len(agent.hellos) >= 2)
    assert agent.connection is None
    agent.greeting = greet
    agent.connected()
    assert agent.run("1")[2] == "1\n"


def test_an_acknowledgement_from_an_earlier_runner_hides_nothing(make_kernel):
    kernel = make_kernel()
    kernel.agent.received = 1000
    agent = kernel.up().agent
    assert agent.run("print('seen')")[2] == "seen\n"
    assert agent.messages[0]["seq"] == 1001
    assert agent.gaps == agent.duplicates == []


def test_frames_are_never_longer_than_they_may_be(agent):
    assert len(agent.run("print('\\x01' * 3_000_000)")[2]) == 3_000_001
    run = agent.execute("input('p' * 5_000_000)")
    assert 0 < len(agent.await_kind(run, "waiting-input")["prompt"]) <= 8192
    agent.send(type="input", run_id=run, text="")
    agent.finish(run)
    assert agent.longest <= 1 << 20


def test_a_hundred_megabytes_flow_in_bounded_memory(kernel):
    agent = kernel.agent
    agent.keep_text = False
    run = agent.execute("line = 'x' * 99\nfor _ in range(1_000_000): print(line)")
    assert agent.finish(run, timeout=55)[:2] == ("finished", 0)
    assert sum(message["size"] for message in agent.of(run, "output")) == 100_000_000
    status = Path(f"/proc/{kernel.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 32 << 10  # KiB


def test_an_agent_that_hangs_is_waited_for_and_then_served(kernel):
    agent = kernel.agent
    agent.leave()
    for _ in range(3):
        agent.listen()
        agent.connected()
        assert agent.run("1")[2] == "1\n"
        agent.leave()


def test_the_runner_ends_at_once_on_sigterm_and_takes_its_children_along(
    kernel, is_alive, wait_until
):
    pid = kernel.interpreter()
    run = kernel.agent.execute(
        "import subprocess\np = subprocess.Popen(['sleep', '60'])\nprint(p.pid)\np.wait()"
    )
    kernel.agent.wait(lambda: kernel.agent.text(run))
    child = int(kernel.agent.text(run))
    kernel.process.send_signal(signal.SIGTERM)
    assert kernel.process.wait(3) == 0
    wait_until(lambda: not is_alive(pid) and not is_alive(child))


def test_code_that_ignores_sigterm_does_not_hold_the_runner(kernel, is_alive, wait_until):
    run = kernel.agent.execute("trap '' TERM; echo $$; while :; do sleep 60; done", mode="batch")
    kernel.agent.wait(lambda: kernel.agent.text(run))
    pid = int(kernel.agent.text(run))
    kernel.process.send_signal(signal.SIGTERM)
    assert kernel.process.wait(3) == 0
    wait_until(lambda: not is_alive(pid))


def test_an_interpreter_ends_with_its_daemon(kernel, is_alive, wait_until):
    pid = kernel.interpreter()
    kernel.kill()
    wait_until(lambda: not is_alive(pid))


def test_a_runner_that_is_debugged_notes_what_it_hears_and_says_and_nothing_of_the_code(
    make_kernel,
):
    kernel = make_kernel()
    kernel.context = replace(kernel.context, debug=True)
    agent = kernel.up().agent
    assert agent.run("print('s3cr' + 'et')", run_id="r1")[2] == "s3cret\n"
    journal = kernel.journal()
    assert "[runner] heard execute run_id='r1' mode='query'" in journal
    assert re.search(r"\[runner\] said output run_id='r1' seq=\d+ stream='stdout' of \d+", journal)
    assert re.search(r"\[runner\] said finished run_id='r1' .*exit_code=0 of \d+ bytes", journal)
    assert "s3cr'" not in journal
