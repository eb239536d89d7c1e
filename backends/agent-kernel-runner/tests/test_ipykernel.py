"""Queries in the Jupyter kernel that most people use: the real one, from its own package."""

import base64
import sys

import pytest

pytestmark = pytest.mark.requires("ipykernel")


@pytest.fixture
def agent(make_kernel):
    kernel = make_kernel(runtime_type="jupyter", runtime_path=sys.executable, grace=5.0)
    return kernel.up().agent


def test_the_namespace_lasts_and_the_last_value_is_shown(agent):
    assert agent.run("x = 6\nx * 7") == ("finished", 0, "42\n", "")
    assert agent.run("x, _") == ("finished", 0, "(6, 42)\n", "")
    assert agent.run("%who_ls int") == ("finished", 0, "['x']\n", "")


def test_errors_and_exits_have_their_exit_codes(agent):
    status, exit_code, _, text = agent.run("1 / 0")
    assert (status, exit_code) == ("finished", 1)
    assert "ZeroDivisionError: division by zero" in text
    assert "\x1b" not in text
    assert agent.run("import sys; sys.exit(3)")[:2] == ("finished", 3)
    assert agent.run("'alive'")[2] == "'alive'\n"


def test_input_and_passwords_are_asked_and_answered(agent):
    run = agent.execute("from getpass import getpass\nprint('hi')\nlen(input('? ') + getpass())")
    asked = agent.await_kind(run, "waiting-input")
    assert (asked["prompt"], asked["password"]) == ("? ", False)
    assert agent.text(run) == "hi\n"
    agent.send(type="input", run_id=run, text="Ada")
    asked = agent.await_kind(run, "waiting-input", count=2)
    assert asked["password"] is True
    agent.send(type="input", run_id=run, text="1234")
    assert agent.finish(run)[:3] == ("finished", 0, "hi\n7\n")


def test_what_is_displayed_arrives_as_media_and_html(agent):
    image = b"\x89PNG" + bytes(100_000)
    run = agent.execute(
        "from IPython.display import HTML, Image, display\ndisplay(HTML('<b>x</b>'))\n"
        f"display(Image(data={image[:4]!r} + bytes(100_000), format='png'))"
    )
    assert agent.finish(run)[:2] == ("finished", 0)
    assert agent.of(run, "html")[0]["text"] == "<b>x</b>"
    data = "".join(message["data"] for message in agent.of(run, "media"))
    assert base64.b64decode(data) == image


def test_an_interrupt_stops_the_code_and_keeps_its_variables(agent):
    run = agent.execute("kept = 5\nimport time\nprint('up')\ntime.sleep(60)")
    agent.await_text(run, "up")
    agent.send(type="interrupt", run_id=run)
    assert agent.finish(run)[:2] == ("interrupted", 130)
    assert agent.run("kept")[2] == "5\n"


def test_a_kernel_that_dies_is_replaced(agent):
    assert agent.run("import os; os._exit(4)")[:2] == ("lost", 4)
    assert agent.run("1 + 1")[:3] == ("finished", 0, "2\n")


def test_names_are_completed(agent):
    agent.run("import os")
    agent.send(type="complete", run_id="c1", code="x = os.path.isd", cursor=15)
    assert agent.await_kind("c1", "completions")["matches"] in (["os.path.isdir"], [])
    agent.send(type="complete", run_id="c2", code="x = os.path.isd", cursor=15)
    assert agent.await_kind("c2", "completions")["matches"] == ["os.path.isdir"]


def test_many_lines_arrive_whole(agent):
    text = agent.run("for number in range(100_000): print(number)")[2]
    assert text == "".join(f"{number}\n" for number in range(100_000))
