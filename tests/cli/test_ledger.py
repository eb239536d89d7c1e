"""`agentctl ledger`: by the agent where it answers, by its file where it does not."""

import json
import os

import pytest

from agent_core.ledger import Ledger


@pytest.fixture
def stopped(tmp_path):
    """The configuration of an agent that does not run, and its ledger."""
    (tmp_path / "var" / "t").mkdir(parents=True)
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nid = "t"\nvar-base-path = "{tmp_path}/var"\n')
    path = tmp_path / "var" / "t" / "ledger.db"
    ledger = Ledger(path)
    ledger.open()
    ledger.close()
    return config, path


def test_a_relative_path_is_one_of_the_callers_directory(agent, agentctl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agentctl("ledger", "backup", "--to", "copy.db", "-f", agent.config)
    assert agent.services.backups == [str(tmp_path / "copy.db")]


def test_people_read_of_holds_and_of_a_loss(agent, agentctl):
    shown = agentctl("ledger", "show", "-f", agent.config).out
    assert "1 MiB" in shown
    assert "RUNNING=1" in shown
    assert ": the file is empty" in shown
    assert "scratch" in shown


def test_the_file_is_read_where_no_agent_answers(stopped, agentctl):
    config, path = stopped
    before = path.read_bytes()
    shown = json.loads(agentctl("ledger", "show", "-f", config, "--json").out)
    assert (shown["path"], shown["kernels"]) == (str(path), {})
    assert shown["reconciling"]
    assert agentctl("ledger", "show", "-f", config).code == 0
    assert path.read_bytes() == before


def test_the_file_of_another_machine_is_not_looked_for(stopped, agentctl, tmp_path):
    config, _ = stopped
    done = agentctl("ledger", "show", "-f", config, "--agent", tmp_path / "nobody.sock")
    assert done.code == 3


def test_a_check_tells_people_what_is_wrong_and_machines_by_the_exit_code(stopped, agentctl):
    config, path = stopped
    assert agentctl("ledger", "check", "-f", config).code == 0
    os.truncate(path, 5000)
    done = agentctl("ledger", "check", "-f", config)
    assert done.code == 1
    assert "damaged" in done.out
    assert "next start" in done.out
    assert done.err.startswith("problem: ")
    found = json.loads(agentctl("ledger", "check", str(path), "--json").out)
    assert (found["ok"], found["condition"]) == (False, "damaged")


@pytest.mark.parametrize(
    ("path", "code", "what"),
    [("nowhere.db", "not-found", "there is no ledger"), (".", "invalid-argument", "not a file")],
)
def test_a_path_without_a_ledger_is_an_error(agentctl, tmp_path, monkeypatch, path, code, what):
    monkeypatch.chdir(tmp_path)
    done = agentctl("ledger", "check", path, "--json")
    assert done.code == 1
    error = json.loads(done.out)["error"]
    assert error["code"] == code
    assert what in error["message"]
    assert error["hint"]
