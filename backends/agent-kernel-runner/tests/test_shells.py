"""Queries of shell images: state from run to run, however a run ends."""

import shutil

import pytest


@pytest.fixture
def bash(make_kernel):
    return make_kernel(runtime_type="shell", runtime_path=shutil.which("bash")).up().agent


@pytest.fixture
def plain(make_kernel):
    path = shutil.which("dash") or pytest.skip("no plain shell here")
    return make_kernel(runtime_type="shell", runtime_path=path).up().agent


def test_directory_variables_functions_and_options_last(bash):
    bash.run("mkdir 'a b'; cd 'a b'; x='one  two'; export Y=$'line\\nline'; list=(1 '2 3')")
    bash.run('greet() { echo "hi $1"; }; shopt -s extglob; set -f; alias ll=ls; umask 077')
    assert bash.run('basename "$PWD"; echo "$x"; printenv Y; echo "${list[1]}"')[2] == (
        "a b\none  two\nline\nline\n2 3\n"
    )
    assert bash.run("greet you; echo *; shopt extglob; alias ll; umask")[2] == (
        "hi you\n*\nextglob        \ton\nalias ll='ls'\n0077\n"
    )
    assert bash.run("unset x HOME; unset -f greet")[0] == "finished"
    assert bash.run('echo "${x-none} ${HOME-none}"; type greet >/dev/null 2>&1 || echo gone')[
        2
    ] == ("none none\ngone\n")


def test_leaving_interrupting_and_errors_keep_the_state(bash):
    assert bash.run("x=1; exit 3")[:2] == ("finished", 3)
    assert bash.run("echo $x; x=2; nosuchprogram")[1:] == (
        127,
        "1\n",
        "bash: line 1: nosuchprogram: command not found\n",
    )
    run = bash.execute("x=3; echo up; sleep 60; echo not")
    bash.await_text(run, "up")
    bash.send(type="interrupt", run_id=run)
    status, code, out, _ = bash.finish(run)
    assert (status, out) == ("interrupted", "up\n")
    assert code in (130, 143)
    assert bash.run("echo $x")[2] == "3\n"
    assert bash.run("if")[1] != 0
    assert bash.run("set -eu; y=4")[1] == 0
    assert bash.run("false; echo not")[:3] == ("finished", 1, "")
    assert bash.run("echo $x$y; set +eu")[2] == "34\n"


def test_a_killed_shell_is_lost_and_the_state_before_it_stays(bash):
    bash.run("x=before")
    status, code, _, text = bash.run("x=after; kill -9 $$")
    assert (status, code) == ("lost", 137)
    assert "killed by signal 9" in text
    assert bash.run("echo $x")[2] == "before\n"


def test_a_shell_that_ignores_interrupts_is_killed(bash):
    run = bash.execute("trap '' INT TERM; echo up; while :; do sleep 60; done")
    bash.await_text(run, "up")
    bash.send(type="interrupt", run_id=run)
    assert bash.finish(run)[:2] == ("interrupted", 137)
    assert bash.run("echo on")[2] == "on\n"


def test_timeouts_streams_and_batches_work_as_elsewhere(bash):
    assert bash.run("echo out; echo err >&2; exit 2")[1:] == (2, "out\n", "err\n")
    assert bash.run("sleep 60", timeout=0.2)[0] == "exec-timeout"
    assert bash.run("echo b", mode="batch")[:3] == ("finished", 0, "b\n")
    bash.send(type="complete", run_id="c", code="ec", cursor=2)
    assert bash.await_kind("c", "completions")["matches"] == []


def test_a_background_process_does_not_hold_a_run_and_outlives_it(bash, kill_quietly, is_alive):
    pid = int(bash.run("sleep 60 & echo $!")[2])
    kill_quietly(pid)
    assert is_alive(pid)


def test_code_may_be_long_and_hold_any_text(bash):
    assert bash.run("x='" + "é" * 200_000 + "'; echo ${#x}")[:2] == ("finished", 0)


def test_a_plain_shell_keeps_its_directory_and_exported_variables(plain):
    plain.run("mkdir sub; cd sub; export X='a  b'; y=1")
    assert plain.run('basename "$PWD"; echo "$X${y-}"')[2] == "sub\na  b\n"
    assert plain.run("X=2; exit 4")[1] == 4
    assert plain.run("echo $X")[2] == "2\n"


def test_the_state_is_that_of_one_life_of_the_runner(make_kernel):
    kernel = make_kernel(runtime_type="shell", runtime_path=shutil.which("bash")).up()
    kernel.agent.run("x=old")
    kernel.kill()
    kernel.agent.disconnected()
    kernel.start()
    kernel.agent.connected()
    assert kernel.agent.run("echo ${x-none}")[2] == "none\n"
