"""Runs that are stopped, that time out, or that take their interpreter with them."""

import os
import signal

import pytest

SLEEP = "import time\nprint('up')\ntime.sleep(60)"
DEAF = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
DEAF += "print('up')\nwhile True: time.sleep(60)"


def start(agent, code, **options):
    run = agent.execute(code, **options)
    agent.await_text(run, "up")
    return run


def test_an_interrupt_raises_in_the_code_and_the_namespace_stays(agent):
    agent.run("kept = 1")
    run = start(agent, SLEEP)
    agent.send(type="interrupt", run_id=run)
    status, code, _, text = agent.finish(run)
    assert (status, code) == ("interrupted", 130)
    assert text.startswith("Traceback")
    assert text.endswith("\nKeyboardInterrupt\n")
    assert "interpreters" not in text
    assert agent.run("kept")[2] == "1\n"


def test_an_interrupt_that_comes_with_the_run_is_not_lost(agent):
    for _ in range(20):
        run = agent.execute("import time\ntime.sleep(60)")
        agent.send(type="interrupt", run_id=run)
        assert agent.finish(run)[0] == "interrupted"


def test_an_interrupt_that_comes_too_late_hits_nobody(agent):
    for number in range(20):
        run = agent.execute(f"{number}")
        agent.await_text(run, f"{number}\n")
        agent.send(type="interrupt", run_id=run)
        agent.finish(run)
    assert agent.run("'alive'") == ("finished", 0, "'alive'\n", "")


def test_an_interrupt_ends_the_waiting_for_input(agent):
    run = agent.execute("input('Who? ')")
    agent.await_kind(run, "waiting-input")
    agent.send(type="interrupt", run_id=run)
    status, _, _, text = agent.finish(run)
    assert status == "interrupted"
    assert "interpreters" not in text
    run = agent.execute("input('Again? ')")
    agent.await_kind(run, "waiting-input")
    agent.send(type="input", run_id=run, text="yes")
    assert agent.finish(run)[2] == "'yes'\n"


def test_an_interrupt_reaches_the_programs_that_the_code_waits_for(agent):
    run = start(agent, "import os\nprint('up')\nos.system('sleep 60')")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[0] in ("interrupted", "finished")


def test_code_that_survives_an_interrupt_ends_as_it_likes(agent):
    code = "import time\ntry:\n    print('up')\n    time.sleep(60)\n"
    run = start(agent, code + "except KeyboardInterrupt: pass\n'done'")
    agent.send(type="interrupt", run_id=run)
    status, exit_code, out, _ = agent.finish(run)
    assert (status, exit_code) == ("finished", 0)
    assert out.endswith("'done'\n")


def test_code_that_ignores_an_interrupt_is_killed_and_the_user_is_told(agent):
    agent.run("gone = 1")
    run = start(agent, DEAF)
    agent.send(type="interrupt", run_id=run)
    status, code, _, text = agent.finish(run)
    assert (status, code) == ("interrupted", 137)
    assert "did not stop within 0.5 s" in text
    assert "NameError" in agent.run("gone")[3]


def test_killing_takes_the_whole_process_group(agent, wait_until, is_alive):
    spawn = "import subprocess\np = subprocess.Popen(['sleep', '60'])\nprint(p.pid, 'up')"
    code = DEAF.replace("print('up')", spawn)
    run = start(agent, code)
    pid = int(agent.text(run).split()[0])
    assert is_alive(pid)
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[0] == "interrupted"
    wait_until(lambda: not is_alive(pid))


def test_a_timeout_ends_the_run_and_keeps_the_namespace_when_it_can(agent):
    agent.run("kept = 1")
    run = agent.execute(SLEEP, timeout=0.2)
    assert agent.finish(run)[:2] == ("exec-timeout", 130)
    assert agent.run("kept")[2] == "1\n"
    run = agent.execute(DEAF, timeout=0.2)
    assert agent.finish(run)[:2] == ("exec-timeout", 137)


def test_time_in_the_queue_does_not_count(agent):
    first = agent.execute("input()")
    agent.await_kind(first, "waiting-input")
    second = agent.execute("'in time'", timeout=0.3)
    third = agent.execute("import time; time.sleep(0.4)", run_id="holds")
    agent.send(type="interrupt", run_id=third)
    agent.finish(third)
    agent.send(type="input", run_id=first, text="")
    assert agent.finish(second)[:2] == ("finished", 0)


@pytest.mark.parametrize(
    ("code", "exit_code", "how"),
    [
        ("import os\nos._exit(7)", 7, "exit code 7"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", 137, "SIGKILL"),
        ("import ctypes\nctypes.string_at(0)", 139, "SIGSEGV"),
        ("import os\nos.closerange(3, 300)\nimport time; time.sleep(60)", 137, "control channel"),
    ],
)
def test_an_interpreter_that_dies_loses_its_run_and_a_fresh_one_takes_over(
    agent, code, exit_code, how
):
    agent.run("gone = 1")
    run = agent.execute("print('before')\n" + code)
    status, got, out, text = agent.finish(run)
    assert (status, got, out) == ("lost", exit_code, "before\n")
    assert f"[runner] the interpreter ended ({how}" in text.replace("killed, since its ", "")
    assert "NameError" in agent.run("gone")[3]


def test_waiting_runs_survive_the_death_of_the_interpreter(agent):
    runs = [agent.execute(code) for code in ("input()", "import os; os._exit(1)", "'next'")]
    agent.await_kind(runs[0], "waiting-input")
    agent.send(type="input", run_id=runs[0], text="")
    assert [agent.finish(run)[0] for run in runs] == ["finished", "lost", "finished"]


def test_an_interpreter_killed_between_runs_is_replaced_and_the_next_run_is_told(kernel, is_alive):
    pid = kernel.interpreter()
    os.kill(pid, signal.SIGKILL)
    status, _, out, _ = kernel.agent.run("'fresh'")
    if status == "lost":  # the kill and the run met
        status, _, out, _ = kernel.agent.run("'fresh'")
    assert (status, out) == ("finished", "'fresh'\n")
    assert kernel.process.poll() is None
    assert kernel.interpreter() != pid


def test_garbage_on_the_control_channel_costs_the_interpreter_and_no_more(agent):
    code = "import os, time\nfor fd in range(3, 20):\n    try: os.write(fd, b'\\xff' * 100)\n"
    status = agent.run(code + "    except OSError: pass\ntime.sleep(60)")[0]
    assert status == "lost"
    assert agent.run("'fine'")[2] == "'fine'\n"


def test_an_interpreter_that_cannot_start_is_an_answer(make_kernel):
    kernel = make_kernel(runtime_path="/no/such/python").up()
    status, code, _, text = kernel.agent.run("1")
    assert (status, code) == ("lost", 127)
    assert "cannot start /no/such/python" in text
    assert kernel.agent.run("echo fine", mode="batch")[:3] == ("finished", 0, "fine\n")


def test_an_interpreter_that_breaks_at_its_start_is_an_answer_each_time(make_kernel, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho broken >&2; exit 9\n")
    broken.chmod(0o755)
    agent = make_kernel(runtime_path=str(broken)).up().agent
    for _ in range(3):
        assert agent.run("1")[:2] == ("lost", 9)


def test_a_forked_child_that_falls_off_the_end_of_the_code_ends(agent, is_alive, wait_until):
    code = "import os\npid = os.fork()\nos.write(1, b'child ' if pid == 0 else b'parent ')\n"
    code += "if pid: os.waitpid(pid, 0)\nNone"
    status, _, out, _ = agent.run(code)
    assert status == "finished"
    assert sorted(out.split()) == ["child", "parent"]
    assert agent.run("pid")[0] == "finished"
    pid = int(agent.run("pid")[2])
    wait_until(lambda: not is_alive(pid))


def test_a_forked_child_asks_nobody(agent):
    code = "import os\nif os.fork() == 0:\n    try: input()\n    except EOFError: print('no')\n"
    code += "else: print(os.wait()[1])"
    assert sorted(agent.run(code)[2].split()) == ["0", "no"]


def test_forking_in_a_loop_and_leaving_processes_wedges_nothing(agent, kill_quietly):
    code = "import os, subprocess, sys\npids = []\n"
    code += "for _ in range(200):\n    pid = os.fork()\n    if pid == 0: os._exit(0)\n"
    code += "for _ in range(3):\n    pids.append(subprocess.Popen(['sleep', '60']).pid)\n"
    code += "pids.append(subprocess.Popen(['yes'], start_new_session=True).pid)\nprint(*pids)"
    run = agent.execute(code)
    assert agent.finish(run)[:2] == ("finished", 0)
    for pid in agent.text(run).replace("y\n", "").split():
        kill_quietly(int(pid))
    agent.keep_text = False
    assert agent.run("1 + 1")[:2] == ("finished", 0)


def test_what_processes_write_between_runs_goes_to_the_kernels_log(kernel, wait_until):
    agent = kernel.agent
    agent.run("import subprocess\nsubprocess.Popen('sleep 0.3; echo stray', shell=True); None")
    wait_until(lambda: "stray" in kernel.journal())
    assert agent.run("print('mine')")[2] == "mine\n"


def test_the_kernels_log_has_a_copy_of_what_runs_print(kernel, wait_until):
    assert kernel.agent.run("print('to both')")[2] == "to both\n"
    wait_until(lambda: "to both\n" in kernel.journal())


def test_multiprocessing_works_in_the_namespace(agent):
    code = "import multiprocessing as mp\nctx = mp.get_context('fork')\n"
    code += "def square(x): return x * x\n"
    code += "with ctx.Pool(2) as pool: print(pool.map(square, range(4)))"
    assert agent.run(code)[:3] == ("finished", 0, "[0, 1, 4, 9]\n")


def test_the_code_has_no_descriptor_of_the_daemon(kernel):
    code = "import os, subprocess\nprint(subprocess.check_output(\n"
    code += "    ['ls', '-l', '/proc/self/fd'], text=True))"
    listing = kernel.agent.run(code)[2]
    assert "socket" not in listing
    links = [line for line in listing.splitlines() if "->" in line]
    assert len(links) == 4  # the three standard streams and the directory itself
    code = "import os\nlinks = []\nfor fd in os.listdir('/proc/self/fd'):\n"
    code += "    try: links.append(os.readlink('/proc/self/fd/' + fd))\n    except OSError: pass\n"
    own = kernel.agent.run(code + "print(*links)")[2]
    assert own.count("socket:") == 1  # its own control channel
