import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from agent_core.wire.models import OutputItem


def output(stream, text):
    return OutputItem(kind="output", stream=stream, text=text)


def asks(prompt, *, password=False):
    return OutputItem(kind="waiting-input", prompt=prompt, password=password)


def test_output_goes_to_the_stream_that_the_code_wrote_to(agent, agentctl):
    agent.services.output = [output("stdout", "out\n"), output("stderr", "err\n")]
    done = agentctl("exec", "k1", "-c", "x", "-f", agent.config)
    assert (done.code, done.out, done.err) == (0, "out\n", "err\n")


def test_what_a_terminal_cannot_show_is_told_with_the_text_in_its_place(agent, agentctl):
    agent.services.output = [
        OutputItem(kind="media", mime="image/png", data="aGVs", alt="<Figure>", more=True),
        OutputItem(kind="media", mime="image/png", data="bG8=\n"),
        OutputItem(kind="html", text="<b>é</b>"),
        OutputItem(kind="media", mime="application/json", data="{}"),
    ]
    done = agentctl("exec", "k1", "-c", "x", "-f", agent.config)
    assert (done.code, done.out) == (0, "<Figure>\n")
    told = ["[image/png, 5 bytes]", "[text/html, 9 bytes]", "[application/json, 2 bytes]"]
    assert done.err.splitlines() == told
    done = agentctl("exec", "k1", "-c", "x", "--json", "-f", agent.config)
    lines = [json.loads(line) for line in done.out.splitlines()]
    whole = {"type": "media", "mime": "image/png", "data": "aGVsbG8=\n", "alt": "<Figure>"}
    assert whole in lines


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"status": "finished", "exit_code": 1}, ""),
        ({"status": "finished", "exit_code": None}, ""),
        ({"status": "finished", "exit_code": 42}, "the run ended with exit code 42\n"),
        (
            {"status": "exec-timeout", "exit_code": None},
            "the run ended: exec-timeout (it ran longer than --timeout allows)\n",
        ),
        ({"status": "lost", "exit_code": 0}, "the run ended: lost (what ran it has ended)\n"),
        ({"status": "odd", "exit_code": 0}, "the run ended: odd\n"),
    ],
)
def test_anything_but_an_exit_code_of_0_fails(agent, agentctl, result, said):
    agent.services.result = result
    done = agentctl("exec", "k1", "-c", "x", "-f", agent.config)
    assert (done.code, done.err) == (1, said)


def test_as_json_every_item_is_a_line_and_the_last_is_the_result(agent, agentctl):
    done = agentctl("exec", "k1", "-c", "x", "--json", "-f", agent.config)
    started, item, result = (json.loads(line) for line in done.out.splitlines())
    assert started == {"type": "started"}
    assert item == {"type": "output", "stream": "stdout", "text": "42\n"}
    assert {key: result[key] for key in ("type", "status", "exit_code")} == {
        "type": "result",
        "status": "finished",
        "exit_code": 0,
    }


def test_the_code_comes_from_the_option_a_file_or_the_standard_input(
    agent, agentctl, tmp_path, monkeypatch
):
    script = tmp_path / "script.py"
    script.write_text("from = 'file'\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped\n")))
    agentctl("exec", "k1", "-c", "option", "-f", agent.config)
    agentctl("exec", "k1", str(script), "--timeout", "2.5", "-f", agent.config)
    agentctl("exec", "k1", "-", "-f", agent.config)
    agentctl("exec", "k1", "--batch", "make && ./run", "-f", agent.config)
    runs = [(run.code, run.mode, run.timeout) for run in agent.services.executed]
    assert runs == [
        ("option", "query", None),
        ("from = 'file'\n", "query", 2.5),
        ("piped\n", "query", None),
        ("make && ./run", "batch", None),
    ]


@pytest.mark.parametrize(
    "arguments",
    [["k1"], ["k1", "a.py", "-c", "x"], ["k1", "-c", "x", "--batch", "y"], ["k1", "absent.py"], []],
)
def test_no_code_or_two_kinds_of_it_is_a_usage_error(agent, agentctl, arguments):
    done = agentctl("exec", *arguments, "-f", agent.config)
    assert done.code == 2
    assert agent.services.executed == []


def test_code_without_end_is_refused_without_reading_it_all(agent, agentctl):
    done = agentctl("exec", "k1", "/dev/zero", "-f", agent.config)
    assert done.code == 2
    assert "/dev/zero has more than 512 KiB" in done.err


def test_a_question_is_answered_from_the_standard_input(agent, agentctl, monkeypatch):
    agent.services.output = [asks("Who? "), output("stdout", "Hello\n")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ada\nnot asked for\n"))
    done = agentctl("exec", "k1", "-c", "x", "-f", agent.config)
    assert (done.code, done.out) == (0, "Who? Hello\n")
    assert agent.services.inputs == ["Ada"]


def test_a_password_is_read_too_where_there_is_no_terminal(agent, agentctl, monkeypatch):
    agent.services.output = [asks("Password: ", password=True)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    assert agentctl("exec", "k1", "-c", "x", "-f", agent.config).code == 0
    assert agent.services.inputs == ["secret"]


def test_a_question_without_an_answer_interrupts_the_run(agent, agentctl, monkeypatch):
    agent.services.output = [asks("Who? ")]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    done = agentctl("exec", "k1", "-c", "x", "-f", agent.config)
    assert done.code == 1
    assert "there is none" in done.err
    assert agent.services.interrupts == [agent.services.executed[0].run_id]


def test_ctrl_c_interrupts_the_run_and_ends_the_command_with_130(agent):
    agent.services.output = [output("stdout", "go\n"), asks("")]
    command = [sys.executable, "-c", "from agent_core.cli.main import main; main()"]
    process = subprocess.Popen(
        [*command, "exec", "k1", "-c", "x", "-f", agent.config],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "go\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "the run ended: interrupted\n"
    assert agent.services.interrupts == [agent.services.executed[0].run_id]


def test_ctrl_c_at_a_hidden_question_leaves_a_terminal_that_shows_what_is_typed(agent):
    agent.services.output = [asks("Password: ", password=True)]
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    command = [sys.executable, "-c", "from agent_core.cli.main import main; main()"]
    process = subprocess.Popen(
        [*command, "exec", "k1", "-c", "x", "-f", agent.config],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert b"Password: " in process.stderr.read(len("Password: "))
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_leaving_a_run_says_what_becomes_of_it(agent):
    agent.services.stubborn = True
    agent.services.output = [output("stdout", "go\n"), asks("")]
    command = [sys.executable, "-c", "from agent_core.cli.main import main; main()"]
    process = subprocess.Popen(
        [*command, "exec", "k1", "-c", "x", "-f", agent.config],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "go\n"
        os.kill(process.pid, signal.SIGINT)
        assert agent.services.interrupted.wait(10)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().startswith("left; the kernel ends the run")


def test_a_reader_that_has_seen_enough_hears_nothing_more(agent):
    agent.services.output = [output("stdout", "line\n" * 2000) for _ in range(200)]
    program = "from agent_core.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "exec", "k1", "-c", "x", "-f", agent.config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
