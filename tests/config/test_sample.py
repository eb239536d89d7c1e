"""The sample and the schema: complete, true, and of one mind with the loader."""

from __future__ import annotations

import re
import tomllib

import jsonschema
import pytest

from agent_core.config.catalogue import Effect, entries
from agent_core.config.loader import load
from agent_core.config.sample import sample
from agent_core.config.schema import schema

KEY = re.compile(r"^#(?=[a-z][a-z-]* = |\[)", re.MULTILINE)


@pytest.fixture(scope="module")
def judge():
    built = schema()
    jsonschema.Draft7Validator.check_schema(built)
    return jsonschema.Draft7Validator(built)


def faults(judge, text):
    return [error.json_path for error in judge.iter_errors(tomllib.loads(text))]


def test_the_sample_loads_as_it_stands_and_changes_nothing(tmp_path, judge):
    path = tmp_path / "agent.toml"
    path.write_text(sample())
    loaded = load(path, environ={})
    nothing = tmp_path / "empty.toml"
    nothing.write_text("")
    assert loaded.config == load(nothing, environ={}).config
    assert loaded.warnings == ()
    assert faults(judge, sample()) == []


def test_the_sample_has_every_key_and_each_of_its_values_is_accepted(tmp_path, judge):
    text = KEY.sub("", sample())
    tree = tomllib.loads(text)
    for entry in entries():
        if entry.effect in (Effect.NOW, Effect.LATER):
            table = tree
            for part in entry.path:
                table = table[part]
    assert faults(judge, text) == []
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert all("not yet in effect" in warning for warning in load(path, environ={}).warnings)


@pytest.mark.parametrize(
    "text",
    [
        "[agent]\nbackned = 'x'",
        "[agnet]\nid = 'x'",
        "[container]\nport-range = 4",
        "[resource]\nreserved-cpu = -1",
        "[logging.file]\nbackup-count = 'many'",
        "[etcd]\nadr = 'x'",
        "[container]\nsandbox-type = 'jail'",
        "[agent]\naiomonitor-webui-port = 1",
    ],
)
def test_what_the_loader_refuses_the_schema_refuses_too(judge, text):
    assert len(faults(judge, text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[agent]\nmode = 'dummy'\nrpc-listen-addr = 'none'",
        "[agent]\nrpc-listen-addr = {host = 'x', port = 1}",
        "[container]\nport-range = [1, 2]\nscratch-size = '1G'\nsandbox-type = 'docker'",
        "[container]\nport-range = '1-2'\nscratch-size = 5\njail-args = []",
        "[kernel.delay]\ncommit = [1, 2]\n[plugin.x]\ny = 1",
        "[logging]\nlevel = 'info'\npkg-ns = {'' = 'WARNING'}",
        "[etcd]\naddr = [{host = 'x', port = 1}, 'y:2']",
    ],
)
def test_what_the_loader_accepts_the_schema_accepts_too(tmp_path, judge, text):
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert load(path, environ={}).path == path
    assert faults(judge, text) == []


def test_an_editor_is_told_what_a_key_means():
    reserved = schema()["properties"]["resource"]["properties"]["reserved-mem"]
    assert "kept from kernels" in reserved["description"]
    assert reserved["default"] == 1 << 30
    assert schema()["properties"]["agent"]["properties"]["allowed-compute-plugins"]["deprecated"]
