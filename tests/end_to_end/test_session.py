"""One session from beginning to end, as a platform's developer sees it over the RPC."""

import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    InsufficientResource,
    InvalidAmount,
    InvalidSpec,
    KernelFailed,
    NotFound,
    UnknownSlot,
    WrongState,
)


def test_a_kernel_with_half_a_gpu_runs_code_and_gives_everything_back(node):
    node.start()
    slots = {"cpu": "1", "mem": "256m", "cuda.shares": "0.5"}
    kernel = node.create(slots=slots, env={"GREETING": "hello: world"})
    shown = node.ask("get_kernel_status", kernel)
    assert node.used() == {"cpu": "1", "mem": str(256 << 20), "cuda.shares": "0.5"}
    assert {grant.plugin for grant in shown.grants} == {"cpu", "mem", "mock"}
    assert shown.runner == "connected"
    code = "import os; print(os.environ['GREETING'], os.environ['CUDA_VISIBLE_DEVICES'])"
    out, _, result = node.run(kernel, code)
    assert out.startswith("hello: world ")
    assert result.exit_code == 0
    node.destroy(kernel)
    node.clean()
    names = [event.name for event in node.events(kernel)]
    assert names == [
        "kernel.preparing",
        "kernel.running",
        "kernel.terminating",
        "kernel.terminated",
    ]


def test_names_persist_between_runs_and_a_mistake_has_its_traceback(node):
    node.start()
    kernel = node.create()
    node.run(kernel, "x = 6")
    out, _, _ = node.run(kernel, "print(x * 7)")
    assert out == "42\n"
    _, err, result = node.run(kernel, "def f():\n    return 1 / 0\nf()")
    assert "ZeroDivisionError" in err
    assert "in f" in err
    assert "agent_kernel_runner" not in err
    assert result.exit_code == 1
    assert node.run(kernel, "print('alive')")[0] == "alive\n"


def test_batch_commands_have_their_exit_codes(node):
    node.start()
    kernel = node.create()
    out, _, result = node.run(kernel, "echo one && exit 3", mode="batch")
    assert out == "one\n"
    assert result.exit_code == 3


def test_a_kernel_shows_what_it_uses(node):
    node.start()
    kernel = node.create()
    node.run(kernel, "data = bytearray(64 << 20); sum(range(2_000_000))")
    usage = {row.metric: row for row in node.ask("get_kernel_status", kernel).usage}
    assert usage["mem"].unit == "bytes"
    assert usage["mem"].value > 64 << 20
    assert usage["cpu_used"].unit == "seconds"
    assert usage["cpu_used"].value > 0


def test_the_same_create_twice_is_one_kernel_and_another_spec_is_refused(node):
    node.start()
    spec = {"kernel_id": "k1", "image": "python", "slots": {"cpu": "1"}}
    first = node.create(**spec)
    second = node.ask("create_kernel", spec)
    assert first == second.kernel_id == "k1"
    assert len(node.ask("list_kernels")) == 1
    with pytest.raises(Conflict, match="another specification"):
        node.ask("create_kernel", {**spec, "slots": {"cpu": "2"}})
    node.destroy("k1")
    with pytest.raises(WrongState, match="has ended"):
        node.ask("create_kernel", spec)


def test_destroying_what_has_ended_is_a_success(node):
    node.start()
    kernel = node.create()
    assert node.destroy(kernel).reason == "user-requested"
    again = node.destroy(kernel)
    assert again.state == "TERMINATED"
    assert again.reason == "user-requested"


def test_an_id_may_be_shortened_to_a_unique_prefix(node):
    node.start()
    node.create(kernel_id="abc-1", slots={"mem": "1m"})
    node.create(kernel_id="abd-2", slots={"mem": "1m"})
    assert node.ask("get_kernel_status", "abc").kernel_id == "abc-1"
    with pytest.raises(NotFound, match="several"):
        node.ask("get_kernel_status", "ab")
    with pytest.raises(NotFound):
        node.ask("get_kernel_status", "x")


@pytest.mark.parametrize(
    ("slots", "error", "part"),
    [
        ({"cuda.share": "1"}, UnknownSlot, "cuda.shares"),
        ({"cpu": "-1"}, InvalidAmount, "-1"),
        ({"cpu": "0.5"}, InvalidAmount, "0.5"),
        ({"cpu": "5000"}, InsufficientResource, "5000"),
    ],
)
def test_slots_that_cannot_be_given_are_refused_with_a_reason_and_nothing_taken(
    node, slots, error, part
):
    node.start()
    with pytest.raises(error) as caught:
        node.ask("create_kernel", {"image": "python", "slots": slots})
    assert part in caught.value.message + (caught.value.hint or "")
    node.clean()


def test_five_mistakes_are_all_named_at_once(node):
    node.start()
    spec = {
        "kernel_id": "no/slash",
        "image": "pyton",
        "slots": {"cpuu": "1", "mem": "12 parsecs"},
        "env": {"9": "x"},
    }
    with pytest.raises(InvalidSpec) as caught:
        node.ask("create_kernel", spec)
    assert len(caught.value.details["faults"]) == 5
    for part in ("no/slash", "pyton", "cpuu", "12 parsecs", "'9'"):
        assert part in caught.value.message


def test_a_kernel_outlives_the_agent_and_the_next_one_finds_it(node):
    node.start()
    kernel = node.create()
    node.run(kernel, "x = 41")
    assert node.end(signal.SIGINT) == 0
    node.start()
    assert [row.state for row in node.ask("list_kernels")] == ["RUNNING"]
    assert node.used() == {"cpu": "1", "mem": str(64 << 20)}
    assert node.run(kernel, "print(x + 1)")[0] == "42\n"
    node.destroy(kernel)
    node.clean()


def test_a_kernel_outlives_an_agent_that_is_killed(node):
    node.start()
    kernel = node.create()
    node.run(kernel, "x = 41")
    assert node.end(signal.SIGKILL) == -signal.SIGKILL
    node.start()
    assert node.run(kernel, "print(x + 1)")[0] == "42\n"
    node.destroy(kernel)
    node.clean()


def test_a_kernel_whose_runner_is_killed_ends_with_its_reason(node):
    node.start()
    kernel = node.create()
    with pytest.raises(KernelFailed, match="has ended"):
        node.run(kernel, "import os, signal; os.kill(os.getppid(), signal.SIGKILL)", timeout=5)
    row = node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=20)
    assert row.reason == "self-terminated"
    assert row.exit_code == 137
    assert "signal 9" in node.ask("get_kernel_status", kernel).message
    node.clean()


def test_a_second_agent_is_refused_at_once_and_told_the_pid(node):
    node.start()
    first, node.process = node.process, None
    began = time.monotonic()
    node.start(ready=False)
    assert node.wait() == 1
    assert time.monotonic() - began < 5
    assert f"pid {first.pid}" in "\n".join(node.log)
    node.process = first
    assert node.ask("ping", "still here") == "still here"


def test_what_code_leaves_running_is_killed_with_its_kernel(node):
    node.start()
    kernel = node.create()
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "print(child.pid)"
    )
    pid = int(node.run(kernel, code)[0])
    os.kill(pid, 0)
    node.destroy(kernel)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    node.clean()


def test_code_that_prints_a_hundred_megabytes_costs_the_agent_little(node):
    node.start()
    kernel = node.create()
    before = resident(node.process.pid)
    out, _, result = node.run(kernel, "for _ in range(100): print('x' * (1 << 20))")
    assert len(out) == 100 * ((1 << 20) + 1)
    assert result.status == "finished"
    assert resident(node.process.pid) - before < 64 << 20


def test_code_that_never_ends_is_ended_by_its_timeout_and_the_kernel_goes_on(node):
    node.start()
    kernel = node.create()
    _, _, result = node.run(kernel, "while True: pass", timeout=0.5)
    assert result.status == "exec-timeout"
    assert node.run(kernel, "print('alive')")[0] == "alive\n"


def test_ending_by_a_signal_while_kernels_are_being_created_undoes_or_keeps_each(node):
    node.start()
    for number in range(4):
        node.create(kernel_id=f"k{number}", slots={"mem": "1m"}, wait=False)
    assert node.end(signal.SIGTERM) == 0
    node.start()
    for row in node.ask("list_kernels", include_ended=True):
        assert row.state in ("RUNNING", "TERMINATED")
        node.destroy(row.kernel_id)
    node.clean()


def resident(pid: int) -> int:
    fields = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(fields.stdout) << 10


def test_what_code_printed_can_be_read_from_the_log_also_after_the_kernel_has_ended(node):
    node.start()
    kernel = node.create()
    node.run(kernel, "print('for the log')")
    assert "for the log" in node.agentctl("kernels", "logs", kernel)
    node.destroy(kernel)
    assert "for the log" in node.agentctl("kernels", "logs", kernel)


def test_code_goes_on_while_the_agent_is_stopped_and_started(node):
    node.start()
    kernel = node.create()
    work = node.root / "scratches" / kernel / "work"
    code = (
        "import os, time\n"
        "open('begun', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "answer = 42"
    )

    def run():
        with contextlib.suppress(AgentError):
            node.run(kernel, code)

    caller = threading.Thread(target=run)
    caller.start()
    while not (work / "begun").exists():
        time.sleep(0.01)
    assert node.end(signal.SIGTERM) == 0
    caller.join(30)
    node.start()
    (work / "go").touch()
    assert node.run(kernel, "print(answer)")[0] == "42\n"
    node.destroy(kernel)
    node.clean()


def test_a_section_of_a_plugin_that_is_not_there_is_told(node):
    node.configure('[plugin.mok]\nfile = "x"\n')
    node.start()
    assert any("did you mean [plugin.mock]" in line for line in node.ask("get_status").warnings)


def test_a_state_directory_of_another_user_is_refused(node):
    if os.geteuid() != 0:
        pytest.skip("only root can make directories of other users")
    theirs = node.root / "var" / "t"
    theirs.mkdir(parents=True)
    os.chown(theirs, 65534, 65534)
    node.start(ready=False)
    assert node.wait() == 1
    assert "belongs to another user" in "\n".join(node.log)
