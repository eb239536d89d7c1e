"""Model definitions: read whole or refused with every fault, and published by their names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.models import HealthCheck, ModelService, PreStartAction
from agent_core.contracts.schema import schema_faults
from agent_core.kernels.model_definition import published, read_models, to_data
from agent_core.kernels.model_schema import ACTIONS, DEFINITION
from agent_core.kernels.service_ports import ServicePort, read_services
from agent_core.kernels.spec import Faults, read_spec

LLM = {
    "name": "llm",
    "model_path": "/models/llm",
    "service": {
        "pre_start_actions": [
            {"action": "write_file", "args": {"filename": "a", "body": ["x"], "mode": "644"}},
            {"action": "run_command", "args": {"command": ["make", "it"]}},
        ],
        "start_command": ["python3", "serve.py"],
        "shell": "/bin/sh",
        "port": 8000,
        "health_check": {
            "path": "/health",
            "max_retries": 3.0,
            "max_wait_time": 2,
            "interval": 0.5,
            "expected_status_code": 204,
            "initial_delay": 1,
        },
    },
    "metadata": {"author": "somebody", "license": None},
}


def model(name="llm", **service):
    return {"name": name, "service": {"start_command": "serve", "port": 8000, **service}}


def faults_of(*models):
    found, faults = read_models({"models": [*models]})
    assert found == ()
    return faults


def test_a_definition_is_read_whole():
    [found], faults = read_models({"models": [LLM]})
    assert faults == []
    assert found == ModelService(
        name="llm",
        port=8000,
        start_command=("python3", "serve.py"),
        model_path="/models/llm",
        shell="/bin/sh",
        pre_start_actions=(
            PreStartAction("write_file", {"filename": "a", "body": ["x"], "mode": "644"}),
            PreStartAction("run_command", {"command": ["make", "it"]}),
        ),
        health_check=HealthCheck("/health", 3, 2, 0.5, 204, 1),
    )
    assert found.health_check.patience == 7


def test_what_is_not_said_has_the_usual_value():
    [found], faults = read_models({"models": [model(health_check=None)]})
    assert faults == []
    assert found == ModelService("llm", 8000, "serve")
    assert found.health_check == HealthCheck("", 10, 15.0, 10.0, 200, 0.0)
    assert read_models(None) == ((), [])


def test_the_form_is_one_that_can_be_checked():
    assert list(schema_faults(DEFINITION)) == []
    assert [fault for action in ACTIONS.values() for fault in schema_faults(action)] == []


@pytest.mark.parametrize(
    ("definition", "fault"),
    [
        ([], "is [], not object"),
        ({}, "models is missing"),
        ({"models": []}, "models has 0 items; at least 1 are needed"),
        ({"models": [model(f"m{i}") for i in range(17)]}, "models has 17 items"),
        ({"models": ["llm"]}, "models[0] is 'llm', not object"),
        ({"models": [{"name": "llm"}]}, "models[0] service is missing"),
        ({"models": [model("")]}, "models[0] name has 0 characters; at least 1 are needed"),
        ({"models": [model(5)]}, "models[0] name is 5, not string"),
        ({"models": [model(), model()]}, "models: 'llm' is there twice"),
        ({"models": [model(port="8000")]}, "models[0] service port is '8000', not integer"),
        ({"models": [model(start_command=[])]}, "start_command has 0 items"),
        ({"models": [model(start_command="a\0b")]}, "start_command is 'a\\x00b'"),
        ({"models": [model(star_command="x")]}, "star_command is not known; known: start_command"),
        (
            {"models": [model(health_check={"path": "health"})]},
            "path is 'health', not a path such as '/health'",
        ),
        ({"models": [model(health_check={"path": "/a b"})]}, "path is '/a b', not a path"),
        (
            {"models": [model(health_check={"path": "/\r\nX: y"})]},
            "path is '/\\r\\nX: y', not a path",
        ),
        ({"models": [model(health_check={"path": "/\n"})]}, "path is '/\\n', not a path"),
        ({"models": [model(health_check={"interval": 0})]}, "interval is 0; it must be at least"),
        ({"models": [model(health_check={"max_retries": 1.5})]}, "is 1.5, not integer"),
        ({"models": [model(health_check={"max_wait_time": float("inf")})]}, "must be at most"),
        ({"models": [model(pre_start_actions=[{"action": "eval"}])]}, "action is 'eval', not one"),
        (
            {"models": [model(pre_start_actions=[{"action": "mkdir", "args": {"pth": "x"}}])]},
            "models[0] service pre_start_actions[0] args path is missing",
        ),
        (
            {
                "models": [
                    model(pre_start_actions=[{"action": "run_command", "args": {"command": "x"}}])
                ]
            },
            "pre_start_actions[0] args command is 'x', not array",
        ),
        ({"models": [model(shell="x" * (65 << 10))]}, "it is larger than 64 KiB"),
        ({"models": [model(shell="\ud800")]}, "it has a character that is none"),
        ({"models": [model(shell=b"sh")]}, "it is no JSON"),
    ],
)
def test_a_fault_is_named_with_its_place(definition, fault):
    found, faults = read_models(definition)
    assert found == ()
    assert any(fault in each for each in faults), faults


def test_every_fault_is_named_and_many_are_counted():
    faults = faults_of({"name": "", "service": {"port": "x"}})
    assert len(faults) == 3
    many = faults_of(*({"name": ""} for _ in range(16)))
    assert len(many) == 13
    assert many[-1] == "and 20 faults more"


def test_the_port_of_a_model_is_published_by_its_name():
    [llm], _ = read_models({"models": [model()]})
    web = ServicePort("web", "tcp", (9000,))
    assert published([llm], [web]) == ((web, ServicePort("llm", "http", (8000,))), [])
    declared = ServicePort("llm", "tcp", (8000, 8001))
    assert published([llm], [declared]) == ((declared,), [])


@pytest.mark.parametrize("name", ["a b", "a\n", "../a", "a" * 64])
def test_a_name_that_cannot_be_published_is_a_fault(name):
    models, faults = read_models({"models": [model(name)]})
    assert faults == []
    [fault] = published(models, [])[1]
    assert fault == f"{name!r} is not a name of 1 to 63 letters, digits, '-' and '_'"


@pytest.mark.parametrize(
    ("ports", "port", "fault"),
    [
        ("web:http:8000", 8000, "'llm': port 8000 is also of 'web'"),
        ("llm:http:8001", 8000, "'llm' answers on port 8000, and ports publishes it on 8001"),
        ("", 80, "'llm': port 80 is not between 1025 and 65534"),
        ("", 2200, "'llm': port 2200 is the system's own"),
    ],
)
def test_a_port_that_cannot_be_published_is_a_fault(ports, port, fault):
    [llm], _ = read_models({"models": [model(port=port)]})
    asked, none = read_services(ports)
    assert none == []
    assert published([llm], asked)[1] == [fault]


def test_a_specification_has_its_models_and_is_told_from_others():
    faults = Faults()
    data = {"image": "i", "kernel_id": "k"}
    spec = read_spec({**data, "model_definition": {"models": [LLM]}}, faults)
    plain = read_spec(data, faults)
    assert faults.errors == []
    assert spec.ports == (ServicePort("llm", "http", (8000,)),)
    assert read_spec(json.loads(json.dumps(spec.to_data())), faults) == spec
    assert "model_definition" not in plain.to_data()
    assert spec.digest != plain.digest


def test_the_faults_of_a_specification_say_where_they_are():
    faults = Faults()
    read_spec({"image": "i", "model_definition": {"models": [model(port="x")]}}, faults)
    [fault] = faults.errors
    assert fault.message == "model_definition: models[0] service port is 'x', not integer"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from([8000, "llm"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*LLM]), inner),
    max_leaves=20,
)


@given(JSON)
def test_anything_is_read_or_refused(value):
    for definition in (value, {"models": value}, {"models": [{**LLM, "service": value}]}):
        models, faults = read_models(definition)
        assert models or faults or definition is None
        assert not models or read_models(to_data(models)) == (models, [])
