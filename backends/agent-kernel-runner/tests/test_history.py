"""The history of runs: the last ones, whoever asked for them, and what became of each."""

from agent_kernel_runner.daemon.executor import Run
from agent_kernel_runner.daemon.framing import encode
from agent_kernel_runner.daemon.history import EXCERPT, MOST, History


def told(agent, name):
    agent.send(type="history", run_id=name)
    return agent.await_kind(name, "history")["runs"]


def test_runs_are_told_in_order_with_how_each_ended(agent):
    assert told(agent, "h1") == []
    agent.run("print(1)", run_id="one")
    agent.run("ignored", mode="batch", options={"exec": "exit 3"}, run_id="two")
    under_way = agent.execute("import time; print('on'); time.sleep(600)", run_id="three")
    agent.await_text(under_way, "on")
    agent.execute("print(4)", run_id="four")
    one, two, three, four = told(agent, "h2")
    assert (one["run_id"], one["mode"], one["code"]) == ("one", "query", "print(1)")
    assert (one["status"], one["exit_code"]) == ("finished", 0)
    assert 0 < one["started_at"] <= one["ended_at"] <= two["started_at"]
    assert (two["mode"], two["status"], two["exit_code"]) == ("batch", "finished", 3)
    assert (three["status"], three["ended_at"]) == (None, None)
    assert three["started_at"] is not None
    assert (four["started_at"], four["status"]) == (None, None)
    agent.send(type="interrupt", run_id="three")
    agent.finish("four")
    assert [run["status"] for run in told(agent, "h3")[2:]] == ["interrupted", "finished"]


def test_a_run_that_was_asked_for_twice_is_there_once(agent):
    agent.run("1", run_id="one")
    agent.execute("1", run_id="one")
    agent.await_kind("one", "finished", count=2)
    assert [run["run_id"] for run in told(agent, "h")] == ["one"]


def test_only_the_last_runs_are_remembered_and_all_of_them_go_into_one_plain_frame():
    history = History()
    for number in range(MOST + 10):
        run = Run(f"{number:064d}", "batch", "", {"exec": "\U0001f600" * 1000}, None)
        history.accepted(run)
        history.began(run)
        history.ended(run, "exec-timeout", 137)
    rows = history.rows()
    assert len(rows) == MOST
    assert rows[0]["run_id"] == f"{10:064d}"
    assert {len(row["code"]) for row in rows} == {EXCERPT}
    frame = encode({"type": "history", "run_id": "h" * 64, "seq": 1 << 40, "runs": rows})
    # A longer one may not be of so many parts.
    assert len(frame) < 64 << 10
