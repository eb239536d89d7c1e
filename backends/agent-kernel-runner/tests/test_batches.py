"""Batches: clean, build and exec as shell commands, and results that outlive the runner."""

import json
import os

import pytest


def kinds(agent, run):
    return [message["type"] for message in agent.of(run) if message["type"] != "output"]


def test_without_options_the_code_is_the_command(kernel):
    status, code, out, err = kernel.agent.run("pwd; echo oops >&2; exit 3", mode="batch")
    assert (status, code, out, err) == ("finished", 3, f"{kernel.work}\n", "oops\n")


def test_the_steps_run_in_order_and_each_tells_its_end_after_its_output(agent):
    options = {"clean": "echo c", "build": "echo b; touch built", "exec": "ls built"}
    run = agent.execute("ignored", mode="batch", options=options)
    assert agent.finish(run) == ("finished", 0, "c\nb\nbuilt\n", "")
    assert kinds(agent, run) == ["started", "step-finished", "step-finished", "finished"]
    told = [(m.get("step"), m.get("exit_code"), m.get("text")) for m in agent.of(run)][1:-1]
    assert told == [
        (None, None, "c\n"),
        ("clean", 0, None),
        (None, None, "b\n"),
        ("build", 0, None),
        (None, None, "built\n"),
    ]


def test_a_failed_build_skips_exec_and_a_failed_clean_does_not(agent):
    run = agent.execute(
        "", mode="batch", options={"clean": "exit 1", "build": "exit 2", "exec": "echo no"}
    )
    assert agent.finish(run) == ("finished", 127, "", "")
    assert [m["exit_code"] for m in agent.of(run, "step-finished")] == [1, 2]
    assert agent.run("", mode="batch", options={"build": "exit 2"})[:2] == ("finished", 2)


def test_empty_and_absent_steps_are_skipped(agent):
    run = agent.execute("", mode="batch", options={"clean": "", "build": " ", "exec": "echo only"})
    assert agent.finish(run)[:3] == ("finished", 0, "only\n")
    assert kinds(agent, run) == ["started", "finished"]
    assert agent.run("", mode="batch") == ("finished", 0, "", "")


def test_a_star_guesses_from_what_lies_there(kernel):
    star = {"clean": "*", "build": "*", "exec": "*"}
    agent = kernel.agent
    status, code, _, text = agent.run("", mode="batch", options=star)
    assert (status, code) == ("finished", 127)
    assert "nothing to run" in text
    (kernel.work / "main.py").write_text("print('guessed')\n")
    assert agent.run("", mode="batch", options=star)[:3] == ("finished", 0, "guessed\n")


def test_a_star_sees_what_the_build_has_made(agent):
    options = {"build": "printf '#!/bin/sh\\necho made' > main; chmod +x main", "exec": "*"}
    assert agent.run("", mode="batch", options=options)[2] == "made\n"


def test_a_signal_ends_a_batch_with_128_and_its_number(agent):
    assert agent.run("kill -SEGV $$", mode="batch")[:2] == ("finished", 139)


def test_the_output_of_a_batch_arrives_while_it_runs(kernel):
    os.mkfifo(kernel.work / "gate")
    agent = kernel.agent
    run = agent.execute("printf half; cat gate", mode="batch")
    agent.await_text(run, "half")
    assert not agent.of(run, "finished")
    (kernel.work / "gate").write_text("-whole")
    assert agent.finish(run)[2] == "half-whole"


def test_python_in_a_batch_holds_nothing_back(kernel):
    os.mkfifo(kernel.work / "gate")
    agent = kernel.agent
    run = agent.execute("python3 -c \"print('now'); open('gate').read()\"", mode="batch")
    agent.await_text(run, "now")
    (kernel.work / "gate").write_text("")
    assert agent.finish(run)[:2] == ("finished", 0)


def test_an_interrupt_ends_a_batch_and_no_further_step_follows(agent):
    run = agent.execute("", mode="batch", options={"build": "echo up; sleep 60", "exec": "echo no"})
    agent.await_text(run, "up")
    agent.send(type="interrupt", run_id=run)
    status, code, out, _ = agent.finish(run)
    assert (status, out) == ("interrupted", "up\n")
    assert code in (130, 143)


@pytest.mark.parametrize("stop", ["interrupt", "timeout"])
def test_a_batch_that_does_not_stop_is_killed_with_all_its_processes(
    agent, stop, is_alive, wait_until
):
    code = "trap '' INT TERM; sleep 60 & echo $! up; while :; do sleep 60; done"
    run = agent.execute(code, mode="batch", timeout=0.5 if stop == "timeout" else None)
    agent.await_text(run, "up")
    if stop == "interrupt":
        agent.send(type="interrupt", run_id=run)
    expected = "interrupted" if stop == "interrupt" else "exec-timeout"
    assert agent.finish(run)[:2] == (expected, 137)
    pid = int(agent.text(run).split()[0])
    wait_until(lambda: not is_alive(pid))


def test_a_process_left_behind_does_not_hold_the_run(agent, kill_quietly, is_alive):
    status, code, out, _ = agent.run("sleep 60 & echo $!", mode="batch")
    kill_quietly(int(out))
    assert (status, code) == ("finished", 0)
    assert is_alive(int(out))


def test_batches_and_queries_take_turns(agent):
    runs = [agent.execute(f"x = {n}; x", mode="query") for n in range(2)]
    runs.insert(1, agent.execute("echo between", mode="batch"))
    assert [agent.finish(run)[2] for run in runs] == ["0\n", "between\n", "1\n"]


def test_a_working_directory_that_is_gone_is_an_answer(kernel):
    kernel.work.rmdir()
    status, code, _, text = kernel.agent.run("echo no", mode="batch")
    assert (status, code) == ("finished", 127)
    assert "cannot start" in text


def test_a_result_is_on_disk_until_it_is_acknowledged_and_survives_the_runner(kernel, wait_until):
    agent = kernel.agent
    agent.auto_ack = False
    run = agent.execute("exit 5", mode="batch")
    agent.finish(run)
    results = kernel.state / "results"
    stored = json.loads((results / f"{run}.json").read_text())
    assert stored == {"status": "finished", "exit_code": 5}
    kernel.kill()
    agent.disconnected()
    agent.auto_ack = True
    kernel.start()
    agent.await_kind(run, "finished", count=2)
    assert run in agent.hellos[-1]["runs"]
    assert agent.of(run, "finished")[1]["exit_code"] == 5
    wait_until(lambda: not list(results.iterdir()))
    agent.execute("echo again", mode="batch", run_id=run)
    agent.await_kind(run, "finished", count=3)
    assert agent.text(run) == ""


def test_a_batch_that_ends_while_the_agent_is_away_is_told_later(kernel):
    agent = kernel.agent
    os.mkfifo(kernel.work / "gate")
    run = agent.execute("echo up; cat gate; exit 6", mode="batch")
    agent.await_text(run, "up")
    agent.leave()
    (kernel.work / "gate").write_text("while away\n")
    agent.listen()
    agent.connected()
    assert run in agent.hellos[-1]["runs"]
    assert agent.finish(run)[:3] == ("finished", 6, "up\nwhile away\n")
    assert agent.gaps == []


def test_what_is_no_result_is_removed_and_hurts_nobody(make_kernel):
    kernel = make_kernel()
    results = kernel.state / "results"
    results.mkdir()
    (results / "garbage.json").write_text("{")
    (results / "list.json").write_text("[1]")
    (results / "odd.json").write_text('{"status": 1, "exit_code": "x"}')
    (results / "half.json.new").write_text("")
    agent = kernel.up().agent
    assert agent.run("1")[2] == "1\n"
    assert sorted(path.name for path in results.iterdir()) == ["half.json.new"]


def test_a_state_directory_that_cannot_be_written_costs_no_result(make_kernel):
    kernel = make_kernel()
    kernel.state.rmdir()
    kernel.state.write_text("a file is in the way")
    agent = kernel.up().agent
    assert agent.run("exit 4", mode="batch")[:2] == ("finished", 4)
    kernel.state.unlink()
    kernel.state.mkdir()
