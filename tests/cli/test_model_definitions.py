"""Files of `kernels create --model-definition` reach the specification, or it says why not."""

import sys

import pytest

CREATE = ("kernels", "create", "--image", "python", "--no-wait", "--model-definition")
SERVICE = {"start_command": "serve", "port": 8000}
YAML = """
models:
  - name: llm
    metadata: {created: 2024-01-01}
    service:
      start_command: serve
      port: 8000
"""
JSON = '{"models": [{"name": "llm", "service": {"start_command": "serve", "port": 8000}}]}'


@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("m.yaml", YAML, {"metadata": {"created": "2024-01-01"}}),
        ("m.json", JSON, {}),
        ("m", JSON, {}),
    ],
)
def test_a_definition_is_read_from_yaml_and_from_json(agent, agentctl, tmp_path, name, text, more):
    source = tmp_path / name
    source.write_text(text)
    done = agentctl(*CREATE, str(source), "-f", agent.config)
    assert (done.code, done.err) == (0, "")
    wanted = {"models": [{"name": "llm", "service": SERVICE, **more}]}
    assert agent.services.specs[0]["model_definition"] == wanted


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("none", None, "No such file"),
        ("m.json", b"models: []", "is not JSON"),
        ("m.yaml", b"models: [", "is not YAML"),
        ("m.yaml", b"", "is empty"),
        ("m.yaml", b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_definition_that_cannot_be_read_is_a_usage_error(
    agent, agentctl, tmp_path, name, data, said
):
    source = tmp_path / name
    if data is not None:
        source.write_bytes(data)
    done = agentctl(*CREATE, str(source), "-f", agent.config)
    assert done.code == 2
    assert said in done.err
    assert agent.services.specs == []


def test_without_what_reads_yaml_it_says_what_to_install(agent, agentctl, tmp_path, monkeypatch):
    source = tmp_path / "m.yaml"
    source.write_text(YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = agentctl(*CREATE, str(source), "-f", agent.config)
    assert done.code == 2
    assert "pip install 'agent-core[yaml]'" in done.err
    assert agent.services.specs == []
