"""Restarting kernels of a real agent: new processes on the same slots, scratch and id."""

import os
import signal

import pytest

from agent_core.contracts.errors import AgentError, RunnerUnavailable

SLOTS = {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"}


def restart(node, kernel):
    """Restart a kernel and wait until it runs again."""
    asked = node.ask("restart_kernel", kernel)
    row = node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30)
    assert (row.state, row.incarnation) == ("RUNNING", asked.incarnation)
    return row


def test_a_restarted_kernel_has_fresh_processes_and_its_old_files_and_slots(node):
    node.start()
    kernel = node.create(slots=SLOTS)
    before = node.ask("get_kernel_status", kernel)
    node.run(kernel, "x = 1; open('kept', 'w').write('here')")
    pid = int(node.run(kernel, "import os; print(os.getpid())")[0])
    assert restart(node, kernel).incarnation == 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert node.run(kernel, "print(open('kept').read())")[0] == "here\n"
    assert "NameError" in node.run(kernel, "print(x)")[1]
    after = node.ask("get_kernel_status", kernel)
    assert after.grants == before.grants
    assert after.container == before.container.replace(".1.main", ".2.main")
    node.destroy(kernel)
    node.clean()


def test_code_that_runs_during_a_restart_is_told(node):
    node.start()
    kernel = node.create()
    code = "import time\nprint('began', flush=True)\nwhile True: time.sleep(0.01)"

    async def run_and_restart(agent):
        async for item in agent.execute_code(kernel, code):
            if "began" in (getattr(item, "text", None) or ""):
                await agent.restart_kernel(kernel)

    with pytest.raises(RunnerUnavailable, match="is being restarted"):
        node.talk(run_and_restart)
    assert node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30).incarnation == 2
    node.destroy(kernel)
    node.clean()


def test_an_agent_that_is_killed_in_the_middle_of_a_restart_completes_it_at_its_next_start(node):
    node.start(AGENT_FAILPOINTS="effect.container-create.before=kill@2")
    kernel = node.create(slots=SLOTS)
    with pytest.raises(AgentError):
        restart(node, kernel)
    assert node.wait() == -signal.SIGKILL
    node.start()
    assert node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30).incarnation == 2
    assert node.run(kernel, "print(6 * 7)")[0] == "42\n"
    node.destroy(kernel)
    node.clean()


def test_the_command_shows_the_steps_and_the_new_incarnation(node):
    node.start()
    kernel = node.create()
    assert "RUNNING (incarnation 2)" in node.agentctl("kernels", "restart", kernel)
    assert node.json("kernels", "restart", kernel)["incarnation"] == 3
    shown = node.agentctl("kernels", "show", kernel, "--timing")
    assert "TOOK" in shown
    assert "incarnation" in shown
    assert "wrong-state" in node.agentctl(
        "kernels", "restart", ended(node, kernel), "--json", code=1
    )
    node.clean()


def ended(node, kernel):
    node.destroy(kernel)
    return kernel
