"""Queries in Jupyter kernels: how what a kernel says becomes a run, however badly it behaves."""

import json
import sys
from pathlib import Path

import pytest

FAKE = str(Path(__file__).parent / "fake_kernel.py")


@pytest.fixture
def make_agent(make_kernel, tmp_path, monkeypatch):
    """Start a runner whose image has the fake kernel, with a fault or without."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    def make(fault="none", runtime_type="jupyter:fake", **spec):
        place = tmp_path / "kernels" / "fake"
        place.mkdir(parents=True)
        argv = [sys.executable, FAKE, "{connection_file}", fault]
        content = {"argv": argv, "language": "Fakish", "display_name": "Fake", **spec}
        (place / "kernel.json").write_text(json.dumps(content))
        kernel = make_kernel(runtime_type=runtime_type, runtime_path=sys.executable).up()
        kernel.agent.kernel = kernel
        return kernel.agent

    return make


def code(*steps):
    return repr([list(step) for step in steps])


def test_text_of_a_kernel_is_the_output_of_the_run(make_agent):
    agent = make_agent()
    run = agent.execute(code(("stream", "one\n"), ("stream", "two\n")))
    assert agent.finish(run) == ("finished", 0, "one\ntwo\n", "")
    kinds = [message["type"] for message in agent.of(run)]
    assert (kinds[0], kinds[-1], {*kinds[1:-1]}) == ("started", "finished", {"output"})


def test_a_kernel_is_chosen_by_its_language_in_any_case(make_agent):
    agent = make_agent(runtime_type="jupyter:FAKISH")
    assert agent.run(code(("stream", "here"))) == ("finished", 0, "here", "")


def test_an_image_without_the_kernel_says_which_it_has(make_agent):
    agent = make_agent(runtime_type="jupyter:julia")
    status, exit_code, _, text = agent.run("1")
    assert (status, exit_code) == ("lost", 127)
    assert text.startswith("[runner] the image has no Jupyter kernel 'julia'; it has ")
    assert "fake" in text
    assert agent.run("echo batches run", mode="batch")[2] == "batches run\n"


def test_the_richest_form_is_passed_on_with_text_for_terminals(make_agent):
    agent = make_agent()
    figure = {"text/plain": "<Figure>", "image/png": "aGVsbG8=\n", "text/html": "<img>"}
    table = {"text/plain": "a b", "text/html": ["<table>", "</table>"]}
    steps = [("show", figure), ("show", table), ("show", {"text/plain": "'plain'"})]
    steps.append(("show", {"application/json": {"a": 1}, "text/plain": "{}"}))
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "slider"}
    run = agent.execute(code(*steps, ("show", widget), ("show", {"bad mime": "x"})))
    assert agent.finish(run)[:3] == ("finished", 0, "'plain'\nslider\n")
    media, json_data = agent.of(run, "media")
    assert media | {"seq": 0} == {
        "type": "media",
        "run_id": run,
        "mime": "image/png",
        "data": "aGVsbG8=",
        "alt": "<Figure>",
        "more": False,
        "seq": 0,
    }
    assert (json_data["mime"], json_data["data"]) == ("application/json", '{"a": 1}')
    (html,) = agent.of(run, "html")
    assert (html["text"], html["alt"]) == ("<table></table>", "a b")


def test_a_large_figure_comes_in_pieces_that_cost_credit(make_agent):
    agent = make_agent()
    agent.auto_credit = False
    agent.hang_up()
    agent.wait(lambda: len(agent.hellos) == 2)
    run = agent.execute(code(("show", {"image/png": "A" * 300_000, "text/plain": "<Figure>"})))
    agent.await_kind(run, "started")
    agent.send(type="credit", bytes=1 << 20)
    agent.finish(run)
    pieces = agent.of(run, "media")
    assert "".join(piece["data"] for piece in pieces) == "A" * 300_000
    assert [piece["more"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert [piece["alt"] for piece in pieces] == ["<Figure>"] + [""] * (len(pieces) - 1)
    assert max(len(piece["data"]) for piece in pieces) <= 32 << 10


def test_a_question_of_the_code_is_answered_after_what_it_printed(make_agent):
    agent = make_agent()
    run = agent.execute(code(("stream", "hello\n"), ("ask", "Secret: ", True)))
    asked = agent.await_kind(run, "waiting-input")
    assert (asked["prompt"], asked["password"]) == ("Secret: ", True)
    assert agent.text(run) == "hello\n"
    agent.send(type="input", run_id=run, text="1234")
    assert agent.finish(run) == ("finished", 0, "hello\n1234\n", "")


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        ({"status": "error", "ename": "E", "evalue": "v", "traceback": []}, ("finished", 1)),
        ({"status": "error", "ename": "SystemExit", "evalue": "7"}, ("finished", 7)),
        ({"status": "error", "ename": "SystemExit", "evalue": "None"}, ("finished", 0)),
        ({"status": "error", "ename": "SystemExit", "evalue": "gone wrong"}, ("finished", 1)),
        ({"status": "aborted"}, ("finished", 130)),
        ({"status": ["nonsense"], "ename": {}}, ("finished", 1)),
    ],
)
def test_a_reply_becomes_an_exit_code(make_agent, reply, ending):
    assert make_agent().run(code(("reply", reply)))[:2] == ending


def test_an_error_is_shown_without_colours(make_agent):
    lines = ["\x1b[0;31mTraceback\x1b[0m", "\x1b[1mValueError: x"]
    say = ("say", "error", {"ename": "ValueError", "evalue": "x", "traceback": lines})
    assert make_agent().run(code(say))[3] == "Traceback\nValueError: x\n"


def test_help_that_the_code_asked_for_is_shown(make_agent):
    payload = [{"source": "page", "data": {"text/plain": "\x1b[31mhelp\x1b[0m"}, "start": 0}]
    reply = {"status": "ok", "payload": payload}
    assert make_agent().run(code(("reply", reply)))[2] == "help"


def test_an_interrupt_is_a_signal_to_the_kernel(make_agent):
    agent = make_agent()
    run = agent.execute(code(("stream", "up\n"), ("sleep", 60), ("reply", {"status": "aborted"})))
    agent.await_text(run, "up")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[:3] == ("interrupted", 130, "up\ninterrupted\n")
    assert agent.run(code(("stream", "still here")))[2] == "still here"


def test_a_kernel_that_wants_a_message_gets_one(make_agent, tmp_path, monkeypatch, wait_until):
    told = tmp_path / "told"
    monkeypatch.setenv("FAKE_INTERRUPTED", str(told))
    agent = make_agent(interrupt_mode="message")
    run = agent.execute(code(("stream", "up\n"), ("sleep", 0.3), ("stream", "done\n")))
    agent.await_text(run, "up")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[:3] == ("finished", 0, "up\ndone\n")
    wait_until(told.exists)


def test_a_kernel_that_does_not_stop_is_killed_and_replaced(make_agent):
    agent = make_agent(interrupt_mode="message")
    run = agent.execute(code(("stream", "up\n"), ("sleep", 60)))
    agent.await_text(run, "up")
    agent.send(type="interrupt", run_id=run)
    status, exit_code, _, text = agent.finish(run)
    assert (status, exit_code) == ("interrupted", 137)
    assert "did not stop within 0.5 s" in text
    assert agent.run(code(("stream", "fresh"))) == ("finished", 0, "fresh", "")


def test_a_timeout_ends_the_run(make_agent):
    agent = make_agent()
    assert agent.run("[]")[0] == "finished"
    status, _, text, _ = agent.run(code(("sleep", 60)), timeout=0.2)
    assert (status, text) == ("exec-timeout", "interrupted\n")


def test_a_kernel_that_dies_loses_its_run_and_is_replaced(make_agent):
    agent = make_agent()
    status, exit_code, text, told = agent.run(code(("stream", "last words\n"), ("exit", 3)))
    assert (status, exit_code, text) == ("lost", 3, "last words\n")
    assert "the Jupyter kernel fake ended (exit code 3)" in told
    assert agent.run(code(("stream", "fresh")))[:3] == ("finished", 0, "fresh")


def test_a_kernel_that_knows_tcp_alone_is_started_over_it(make_agent):
    agent = make_agent("tcp-only")
    assert agent.run(code(("stream", "over tcp")))[:3] == ("finished", 0, "over tcp")


def test_a_directory_too_deep_for_sockets_is_no_obstacle(make_agent, make_kernel, monkeypatch):
    agent = make_agent()
    kernel = make_kernel(runtime_type="jupyter:fake", runtime_path=sys.executable)
    deep = kernel.state / ("d" * 90)
    deep.mkdir()
    kernel.context = type(kernel.context)(
        **{name: getattr(kernel.context, name) for name in kernel.context.__slots__}
        | {"state_dir": str(deep)}
    )
    assert kernel.up().agent.run(code(("stream", "deep")))[2] == "deep"
    assert agent.run(code(("stream", "short")))[2] == "short"


def test_a_kernel_that_cannot_start_says_why(make_agent):
    agent = make_agent("dies")
    status, exit_code, _, text = agent.run("[]")
    assert (status, exit_code) == ("lost", 127)
    assert "[runner] the Jupyter kernel fake ended (exit code 5) before it answered" in text


def test_a_run_whose_kernel_never_answers_can_be_interrupted(make_agent):
    agent = make_agent("mute")
    run = agent.execute("[]")
    agent.await_kind(run, "started")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[:2] == ("interrupted", 130)


def test_messages_with_another_signature_are_not_believed(make_agent):
    agent = make_agent("wrong-key")
    run = agent.execute(code(("stream", "forged")))
    agent.await_kind(run, "started")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run) == ("interrupted", 130, "", "")


def test_what_listens_and_is_no_kernel_is_given_up(make_agent):
    status, exit_code, _, text = make_agent("garbage").run("[]")
    assert (status, exit_code) == ("lost", 127)
    assert "does not speak ZMTP" in text


@pytest.mark.parametrize("fault", ["no-idle", "no-reply"])
def test_a_run_ends_though_half_of_its_end_never_comes(make_agent, fault):
    agent = make_agent(fault)
    assert agent.run(code(("stream", "said\n")))[:3] == ("finished", 0, "said\n")
    assert agent.run(code(("stream", "again\n")))[:3] == ("finished", 0, "again\n")


def test_a_kernel_that_says_nothing_of_its_state_can_be_used(make_agent):
    agent = make_agent("no-status")
    assert agent.run(code(("stream", "said\n")))[:3] == ("finished", 0, "said\n")


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"stream", b"<IDS|MSG>"],
        [b"<IDS|MSG>", b"0" * 64, b"{", b"[", b"1", b"null"],
        [b"x"] * 900,
        [b"y" * 1_000_000],
    ],
)
def test_what_is_no_message_is_passed_over(make_agent, parts):
    agent = make_agent()
    assert agent.run(code(("raw", parts), ("stream", "on\n")))[:3] == ("finished", 0, "on\n")


@pytest.mark.parametrize(
    "content",
    [
        ("stream", {"name": ["x"], "text": {}}),
        ("display_data", {"data": ["image/png"]}),
        ("display_data", {"data": {"image/png": None, "text/plain": 3}}),
        ("error", {"traceback": [1, None], "ename": [], "evalue": {}}),
        ("status", {"execution_state": {}}),
        ("nonsense", {"x": "\ud800"}),
        ("stream", {"name": "stdout", "text": "\ud800"}),
    ],
)
def test_no_content_that_a_kernel_sends_can_wedge_it(make_agent, content):
    agent = make_agent()
    assert agent.run(code(("say", *content)))[:2] == ("finished", 0)
    assert agent.run(code(("stream", "on\n")))[2] == "on\n"
    assert "a defect" not in agent.kernel.journal()


def test_more_than_the_daemon_keeps_is_dropped_and_told(make_agent):
    agent = make_agent()
    run = agent.execute(code(("burst", 18_000_000), ("stream", "after")))
    agent.finish(run)
    dropped = sum(message["bytes"] for message in agent.of(run, "truncated"))
    assert dropped >= 1_000_000
    assert dropped + len(agent.text(run)) == 18_000_005


def test_a_kernel_whose_messages_nobody_could_hold_is_given_up(make_agent):
    agent = make_agent()
    status, exit_code, _, text = agent.run(code(("burst", 33 << 20)))
    assert (status, exit_code) == ("lost", 137)
    assert "a message is longer than" in text
    assert agent.run(code(("stream", "fresh")))[2] == "fresh"


def test_completions_replace_the_dotted_word(make_agent, monkeypatch):
    def complete(name, text):
        agent.send(type="complete", run_id=name, code=text, cursor=len(text))
        return agent.await_kind(name, "completions")["matches"]

    matches = {"matches": ["isdir", 5, "islink"], "cursor_start": 12, "cursor_end": 14}
    monkeypatch.setenv("FAKE_MATCHES", repr(matches))
    agent = make_agent()
    agent.run("[]")
    assert complete("c1", "x = os.path.is") == ["os.path.isdir", "os.path.islink"]
    assert complete("c2", "a") == ["aisdir", "aislink"]


def test_a_busy_kernel_completes_nothing(make_agent):
    agent = make_agent()
    run = agent.execute(code(("ask", "?", False)))
    agent.await_kind(run, "waiting-input")
    agent.send(type="complete", run_id="c1", code="pri", cursor=3)
    assert agent.await_kind("c1", "completions")["matches"] == []
    agent.send(type="input", run_id=run, text="")
    agent.finish(run)


def test_an_agent_that_was_away_gets_what_the_kernel_said(make_agent):
    agent = make_agent()
    run = agent.execute(code(("stream", "one\n"), ("sleep", 0.5), ("show", {"image/png": "AAAA"})))
    agent.await_text(run, "one")
    agent.leave()
    agent.listen()
    assert agent.finish(run)[:3] == ("finished", 0, "one\n")
    assert agent.of(run, "media")[0]["data"] == "AAAA"
    assert agent.gaps == []
