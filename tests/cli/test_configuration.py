"""`agentctl config`: a sample, a schema, where each key is set, and what `serve` overrides."""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from pathlib import Path

import pytest

from agent_core import agent as composition
from agent_core.cli.serve import overrides
from agent_core.config.loader import load
from agent_core.contracts.errors import InvalidConfig
from agent_core.loops import factory_of


@pytest.fixture
def config(tmp_path):
    """Write a configuration file, and return its path."""

    def write(text):
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return str(path)

    return write


def test_a_sample_is_written_where_nothing_is_replaced_unasked(agentctl, tmp_path):
    path = tmp_path / "agent.toml"
    assert agentctl("config", "sample", "-o", str(path)).code == 0
    tomllib.loads(path.read_text())
    assert path.read_text() == agentctl("config", "sample").out
    path.write_text("mine")
    refused = agentctl("config", "sample", "-o", str(path))
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert path.read_text() == "mine"
    assert agentctl("config", "sample", "-o", str(path), "--overwrite").code == 0
    assert "reserved-mem" in path.read_text()
    assert agentctl("config", "sample", "-o", str(tmp_path)).code == 2


def test_the_schema_is_json(agentctl):
    assert "agent" in json.loads(agentctl("config", "schema").out)["properties"]


def test_each_key_is_shown_with_the_line_that_set_it_and_no_secret(config, agentctl, monkeypatch):
    monkeypatch.setenv("AGENT_LOGGING__LEVEL", "DEBUG")
    path = config('[agent]\nid = "i-a"\n[etcd]\npassword = "hunter2"\n')
    words = ("config", "show", "-f", path, "--origin", "--set", "container.stop-grace=3")
    found = json.loads(agentctl(*words, "--json").out)
    assert found["agent.id"] == {"value": "i-a", "from": f"{path}:2"}
    assert found["etcd.password"] == {"value": "***", "from": f"{path}:4"}
    assert found["logging.level"] == {"value": "DEBUG", "from": "$AGENT_LOGGING__LEVEL"}
    assert found["container.stop-grace"] == {"value": 3.0, "from": "command line"}
    assert found["container.runner"] == {"value": None, "from": "default"}
    done = agentctl(*words)
    assert f"{path}:2" in done.out
    assert "hunter2" not in done.out + done.err


def test_a_secret_is_not_told_by_the_fault_of_its_value(config, agentctl):
    done = agentctl("config", "check", "-f", config("[etcd]\npassword = 424242\n"))
    assert done.code == 1
    assert "etcd.password: should be a text" in done.err
    assert "424242" not in done.err


def test_the_options_of_serve_go_over_the_file(config, tmp_path):
    path = config('[logging]\nlevel = "ERROR"\n')
    values = overrides(
        ("agent.region=x",),
        debug=True,
        scratch_root=str(tmp_path),
        log_level="warning",
        etcd_addr="h:1",
        namespace=None,
    )
    loaded = load(Path(path), values, environ={})
    assert loaded.config.debug.enabled
    assert loaded.config.agent.region == "x"
    assert loaded.config.container.scratch_root == tmp_path
    assert loaded.config.logging.level == "WARNING"
    assert loaded.later == {"etcd": {"addr": "h:1"}}
    assert loaded.origins["logging.level"] == "command line"


def test_uvloop_that_is_not_installed_is_told_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(InvalidConfig, match="uvloop is not installed") as refused:
        factory_of("uvloop")
    assert "agent-core[uvloop]" in refused.value.hint


def test_serve_runs_on_the_loop_that_is_asked_for(config, agentctl, monkeypatch, tmp_path):
    seen = []

    async def serve(config, warnings, *, tcp_is_chosen, load):
        seen.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        seen.append(load().config == config)

    monkeypatch.setattr(composition, "serve", serve)
    path = config(f'[agent]\nid = "i-a"\nevent-loop = "uvloop"\nvar-base-path = "{tmp_path}"\n')
    assert agentctl("serve", "-f", path).code == 0
    assert seen == ["uvloop", True]


def test_a_reload_says_what_was_done_with_what(agent, agentctl):
    done = agentctl("config", "reload", "-f", agent.config)
    assert done.out.splitlines() == ["taken over: agent.region", "needs a restart: agent.id"]
    assert json.loads(agentctl("config", "reload", "-f", agent.config, "--json").out) == {
        "applied": ["agent.region"],
        "needs_restart": ["agent.id"],
        "warnings": [],
    }
