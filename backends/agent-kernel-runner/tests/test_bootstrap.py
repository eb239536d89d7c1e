"""The user's bootstrap script: before all code, within its time, and never in the kernel's way."""

import os
from dataclasses import replace

import pytest

from .conftest import alive, until


@pytest.fixture
def bootstrapped(make_kernel):
    """Make a running kernel with a bootstrap script; without a shell's sake it is a program."""

    def make(script, *, timeout=60.0, mode=0o700, **options):
        kernel = make_kernel(**options)
        path = kernel.work / "bootstrap.sh"
        path.write_text(script)
        path.chmod(mode)
        kernel.context = replace(kernel.context, bootstrap=str(path))
        kernel.runner.open({"interrupt-grace": 0.5, "bootstrap-timeout": timeout})
        return kernel.up()

    return make


def test_code_waits_for_the_script_and_finds_what_it_has_made(bootstrapped):
    kernel = bootstrapped("until [ -e go ]; do sleep 0.01; done; echo made > there; pwd\n")
    run = kernel.agent.execute("print(open('there').read(), end='')")
    assert kernel.agent.of(run) == []
    (kernel.work / "go").touch()
    assert kernel.agent.finish(run) == ("finished", 0, "made\n", "")
    assert f"{kernel.work}\n" in kernel.journal()


def test_a_script_names_its_own_interpreter(bootstrapped):
    kernel = bootstrapped("#!/usr/bin/python3\nimport sys\nprint('by', sys.argv[0])\n")
    assert kernel.agent.run("1")[0] == "finished"
    assert f"by {kernel.work}/bootstrap.sh" in kernel.journal()


def test_a_script_without_its_interpreter_is_run_by_the_shell(bootstrapped):
    kernel = bootstrapped("#!/no/such/interpreter\necho by a shell\n")
    assert kernel.agent.run("1")[0] == "finished"
    assert "by a shell" in kernel.journal()
    assert "the bootstrap script is run by /bin/" in kernel.journal()


def test_a_script_that_fails_says_so_in_the_log_and_the_kernel_goes_on(bootstrapped):
    kernel = bootstrapped("echo before; exit 7\n")
    assert kernel.agent.run("print(6 * 7)")[:3] == ("finished", 0, "42\n")
    assert "[runner] the bootstrap script ended with exit code 7" in kernel.journal()


def test_a_script_that_is_not_there_says_so_and_the_kernel_goes_on(make_kernel):
    kernel = make_kernel()
    kernel.context = replace(kernel.context, bootstrap=str(kernel.work / "gone.sh"))
    assert kernel.up().agent.run("print(1)")[2] == "1\n"
    assert "[runner] the bootstrap script cannot be started" in kernel.journal()


def test_a_script_beyond_its_time_is_killed_with_what_it_started(bootstrapped):
    kernel = bootstrapped("sleep 600 & echo $! > child; wait\n", timeout=0.3)
    assert kernel.agent.run("print(1)")[2] == "1\n"
    assert "[runner] the bootstrap script is killed after 0.3 s" in kernel.journal()
    until(lambda: not alive(int((kernel.work / "child").read_text())))


def test_what_a_script_leaves_in_the_background_lives_on(bootstrapped):
    kernel = bootstrapped("sleep 600 & echo $! > child\n")
    assert kernel.agent.run("1")[0] == "finished"
    child = int((kernel.work / "child").read_text())
    assert alive(child)
    assert os.getpgid(child) != os.getpgid(kernel.process.pid)


def test_services_wait_for_the_script_and_can_be_listed_meanwhile(bootstrapped):
    kernel = bootstrapped("until [ -e go ]; do sleep 0.01; done\n")
    agent = kernel.agent
    agent.send(type="shutdown-service", run_id="stop", name="web")
    agent.send(type="services", run_id="list")
    assert agent.await_kind("list", "services")["services"] == []
    assert agent.of("stop") == []
    (kernel.work / "go").touch()
    assert agent.await_kind("stop", "service-state")["state"] == "stopped"


def test_a_run_that_waits_for_the_script_can_be_withdrawn(bootstrapped):
    kernel = bootstrapped("until [ -e go ]; do sleep 0.01; done\n")
    run = kernel.agent.execute("print(1)")
    kernel.agent.send(type="interrupt", run_id=run)
    assert kernel.agent.finish(run) == ("interrupted", None, "", "")
    (kernel.work / "go").touch()
    assert kernel.agent.run("print(2)")[2] == "2\n"
