"""Queries in Python: one namespace, output as it is written, input, and how runs end."""

import shutil
import subprocess
import sys

import pytest


def pythons():
    """Every other Python that this machine has and that starts."""
    for version in ("3.8", "3.9", "3.10", "3.12", "3.13", "3.14"):
        path = shutil.which(f"python{version}")
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            yield path


def test_the_namespace_lasts_and_the_last_value_is_shown(agent):
    assert agent.run("x = 6\nx * 7") == ("finished", 0, "42\n", "")
    assert agent.run("f'{x=}'") == ("finished", 0, "'x=6'\n", "")
    assert agent.run("None") == ("finished", 0, "", "")
    assert agent.run("_")[2] == "'x=6'\n"
    assert agent.run("") == ("finished", 0, "", "")
    assert agent.run("# a remark alone") == ("finished", 0, "", "")


def test_future_statements_last_as_at_a_prompt(agent):
    agent.run("from __future__ import annotations")
    assert agent.run("def f(a: nowhere): ...")[:2] == ("finished", 0)


def test_code_is_the_main_module_in_its_working_directory(kernel):
    (kernel.work / "mine.py").write_text("value = 5\n")
    code = "import mine, os, sys; (__name__, mine.value, os.getcwd(), sys.argv)"
    assert kernel.agent.run(code)[2] == f"('__main__', 5, {str(kernel.work)!r}, [''])\n"
    assert kernel.agent.run("class C: ...\nimport pickle; type(pickle.loads(pickle.dumps(C())))")[
        2
    ] == ("<class '__main__.C'>\n")


def test_a_run_starts_before_its_output_and_ends_after_it(agent):
    run = agent.execute("import sys\nprint('a'); print('b', file=sys.stderr)")
    agent.finish(run)
    kinds = [message["type"] for message in agent.of(run)]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"output"}


def test_output_arrives_while_the_code_runs_even_half_a_line(agent):
    run = agent.execute("print('half', end='')\nprint(input())\nprint('more')\ninput()")
    agent.await_text(run, "half")
    agent.await_kind(run, "waiting-input")
    assert not agent.of(run, "finished")
    agent.send(type="input", run_id=run, text="-line")
    agent.await_text(run, "half-line\nmore\n")
    agent.await_kind(run, "waiting-input", count=2)
    agent.send(type="input", run_id=run, text="")
    assert agent.finish(run)[:2] == ("finished", 0)


def test_output_of_child_processes_and_of_descriptors_is_captured_in_order(agent):
    code = "import os, subprocess\nprint('one')\nos.system('echo two')\nos.write(1, b'three\\n')\n"
    code += "subprocess.run(['sh', '-c', 'echo four; echo five >&2'])\nprint('six')"
    assert agent.run(code)[2:] == ("one\ntwo\nthree\nfour\nsix\n", "five\n")


def test_text_of_any_language_arrives_whole_and_broken_bytes_are_marked(agent):
    assert agent.run("print('zażółć 漢字 🎉')")[2] == "zażółć 漢字 🎉\n"
    assert agent.run("import os; os.write(1, b'a\\xffb\\xe6\\xbc'); None")[2] == "a\ufffdb\ufffd"
    assert agent.run("print('\\udc80')")[:3] == ("finished", 0, "\\udc80\n")


def test_input_asks_and_is_answered(agent):
    run = agent.execute("name = input('Who? ')\nprint('hello', name)")
    asked = agent.await_kind(run, "waiting-input")
    assert (asked["prompt"], asked["password"]) == ("Who? ", False)
    agent.send(type="input", run_id=run, text="Ada")
    assert agent.finish(run) == ("finished", 0, "hello Ada\n", "")


def test_a_password_is_asked_as_one(agent):
    run = agent.execute("from getpass import getpass\nlen(getpass('Secret: '))")
    asked = agent.await_kind(run, "waiting-input")
    assert (asked["prompt"], asked["password"]) == ("Secret: ", True)
    agent.send(type="input", run_id=run, text="12345")
    assert agent.finish(run)[2] == "5\n"


def test_a_prompt_comes_after_what_was_printed_before(agent):
    run = agent.execute("print('x' * 100_000)\ninput('Now? ')")
    agent.await_kind(run, "waiting-input")
    assert len(agent.text(run)) == 100_001
    agent.send(type="input", run_id=run, text="")
    agent.finish(run)


def test_input_that_nobody_waits_for_is_ignored(agent):
    run = agent.execute("input()")
    agent.await_kind(run, "waiting-input")
    for _ in range(2):
        agent.send(type="input", run_id=run, text="first")
    assert agent.finish(run)[2] == "'first'\n"
    run = agent.execute("input()")
    agent.await_kind(run, "waiting-input")
    agent.send(type="input", run_id="another", text="wrong")
    agent.send(type="input", run_id=run, text="right")
    assert agent.finish(run)[2] == "'right'\n"


def test_a_thread_that_asks_when_its_run_has_ended_gets_an_error_and_wedges_nothing(agent):
    code = "import threading, time\nasked = []\n"
    code += "def ask():\n    try: asked.append(input('later? '))\n"
    code += "    except EOFError as exc: asked.append(exc)\n"
    code += "thread = threading.Thread(target=ask); thread.start()\n"
    run = agent.execute(code + "thread.join(0.3)")
    agent.await_kind(run, "waiting-input")
    assert agent.finish(run)[:2] == ("finished", 0)
    assert "EOFError" in agent.run("thread.join(); repr(asked)")[2]
    assert agent.run("1 + 1")[2] == "2\n"


def test_standard_input_is_empty(agent):
    assert agent.run("import sys; sys.stdin.read()")[2] == "''\n"


def test_an_exception_shows_a_traceback_of_the_users_own_frames(agent):
    agent.run("def divide(a):\n    return a / 0")
    status, code, _, text = agent.run("divide(1)")
    assert (status, code) == ("finished", 1)
    assert text.startswith("Traceback (most recent call last):\n  File")
    assert "    return a / 0\n" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert "interpreters" not in text


def test_chained_exceptions_and_syntax_errors_are_shown_without_foreign_frames(agent):
    text = agent.run("try:\n    {}['k']\nexcept KeyError as exc:\n    raise ValueError from exc")[3]
    assert "KeyError: 'k'" in text
    assert "direct cause" in text
    assert "interpreters" not in text
    status, code, _, text = agent.run("1 +")
    assert (status, code) == ("finished", 1)
    assert "SyntaxError" in text
    assert "Traceback" not in text
    assert agent.run("x\0y")[1] == 1


def test_what_the_user_hooks_for_exceptions_is_used(agent):
    agent.run("import sys\nsys.excepthook = lambda kind, *rest: print('mine', kind.__name__)")
    assert agent.run("1 / 0")[:3] == ("finished", 1, "mine ZeroDivisionError\n")


@pytest.mark.parametrize(
    ("code", "exit_code", "text"),
    [
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit(-1)", 255, ""),
        ("raise SystemExit('enough')", 1, "enough\n"),
        ("exit(4)", 4, ""),
    ],
)
def test_leaving_gives_its_exit_code_and_the_namespace_stays(agent, code, exit_code, text):
    agent.run("kept = 'kept'")
    assert agent.run(code) == ("finished", exit_code, "", text)
    assert agent.run("kept")[2] == "'kept'\n"


def test_streams_that_were_closed_are_open_again_for_the_next_run(agent):
    agent.run("import sys; sys.stdout.close()")
    assert agent.run("print('back')")[2] == "back\n"
    agent.run("import sys; sys.stderr = None")
    assert "ZeroDivisionError" in agent.run("1 / 0")[3]


def test_a_stream_that_code_made_non_blocking_waits_again_in_the_next_run(agent):
    agent.run("import os; os.set_blocking(1, False)")
    assert len(agent.run("print('x' * 5_000_000)")[2]) == 5_000_001


def test_completions_come_from_the_namespace(agent):
    def complete(code, cursor=None):
        name = f"complete-{len(agent.messages)}"
        agent.send(
            type="complete",
            run_id=name,
            code=code,
            cursor=len(code) if cursor is None else cursor,
        )
        return agent.await_kind(name, "completions")["matches"]

    agent.run("import os\nclass Thing:\n    size = 1\n    _hidden = 2\nthing = Thing()")
    assert complete("thing.") == ["thing.size"]
    assert complete("thing._h") == ["thing._hidden"]
    assert complete("x = os.path.isd") == ["os.path.isdir"]
    assert complete("thin") == ["thing"]
    assert complete("thing.si + 1", 8) == ["thing.size"]
    assert "while" in complete("whi")
    assert complete("nowhere.") == []
    assert complete("f().") == []
    assert complete("") != []


def test_a_busy_interpreter_completes_nothing_and_a_slow_completion_is_given_up(agent):
    run = agent.execute("input()")
    agent.await_kind(run, "waiting-input")
    agent.send(type="complete", run_id="c1", code="pri", cursor=3)
    assert agent.await_kind("c1", "completions")["matches"] == []
    agent.send(type="input", run_id=run, text="")
    agent.finish(run)
    agent.run(
        "import time\nclass Slow:\n    @property\n    def a(self): time.sleep(60)\ns = Slow()"
    )
    agent.send(type="complete", run_id="c2", code="s.a.b", cursor=5)
    waiting = agent.execute("'went on'")
    assert agent.finish(waiting)[2] == "'went on'\n"
    assert agent.await_kind("c2", "completions")["matches"] == []


def test_runs_go_in_order_and_a_repeated_request_runs_once(agent):
    first = agent.execute("order = []\ninput()")
    others = [agent.execute(f"order.append({number})") for number in range(5)]
    agent.execute("order.append('again')", run_id=others[0])
    agent.await_kind(first, "waiting-input")
    agent.send(type="input", run_id=first, text="")
    agent.finish(others[-1])
    assert agent.run("order")[2] == "[0, 1, 2, 3, 4]\n"
    agent.execute("order.append('late')", run_id=others[0])
    agent.await_kind(others[0], "finished", count=2)
    assert agent.run("order")[2] == "[0, 1, 2, 3, 4]\n"
    assert len(agent.of(others[0], "started")) == 1


def test_a_waiting_run_is_cancelled_or_interrupted_without_being_started(agent):
    first = agent.execute("input()")
    second, third = agent.execute("print('no')"), agent.execute("print('no')")
    agent.send(type="cancel", run_id=second)
    agent.send(type="interrupt", run_id=third)
    assert agent.finish(second) == ("cancelled", None, "", "")
    assert agent.finish(third) == ("interrupted", None, "", "")
    agent.await_kind(first, "waiting-input")
    agent.send(type="cancel", run_id=first)
    agent.send(type="input", run_id=first, text="")
    assert agent.finish(first)[0] == "finished"


@pytest.mark.parametrize(
    "wrong",
    [{"code": 5}, {"mode": "nonsense"}, {"options": []}, {"timeout": -1}, {"timeout": "soon"}],
)
def test_what_cannot_be_run_is_answered_with_a_reason(agent, wrong):
    agent.send(**{"type": "execute", "run_id": "bad", "mode": "query", "code": "1", **wrong})
    status, code, _, text = agent.finish("bad")
    assert (status, code) == ("cancelled", None)
    assert text.startswith("[runner] not run: ")
    assert agent.run("1")[2] == "1\n"


@pytest.mark.parametrize("path", [*pythons(), sys.executable])
def test_the_interpreter_may_be_any_python(make_kernel, path):
    agent = make_kernel(runtime_path=path).up().agent
    assert agent.run("import sys\n'%d.%d' % sys.version_info[:2]")[0] == "finished"
    text = agent.run("def f(): raise ValueError('x')\nf()")[3]
    assert (text.count("File"), text.count("<query-2>")) == (2, 2)
    run = agent.execute("input('?')")
    agent.await_kind(run, "waiting-input")
    agent.send(type="input", run_id=run, text="yes")
    assert agent.finish(run)[2] == "'yes'\n"
    run = agent.execute("import time\nprint('up')\ntime.sleep(60)")
    agent.await_text(run, "up")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[:2] == ("interrupted", 130)
