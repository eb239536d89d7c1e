import json

import pytest

from agent_core.wire import models as m

ARRAYS = [
    "devices list",
    "slots",
    "images list",
    "kernels list",
    "sessions list",
    "sessions destroy s1",
    "kernels ports k1",
    "leaks",
    "leaks --fix",
    "events",
]
OBJECTS = [
    "reconcile",
    "reconcile --dry-run",
    "status",
    "plugins show mock",
    "plugins why mock",
    "kernels show k1",
    "ledger show",
    "ledger backup",
]


@pytest.mark.parametrize("command", [*ARRAYS, "plugins list --live", "kernels destroy k1"])
def test_lists_are_arrays_of_objects_as_json(agent, agentctl, command):
    done = agentctl(*command.split(), "-f", agent.config, "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    assert isinstance(rows, list)
    assert all(isinstance(row, dict) for row in rows)
    assert rows


@pytest.mark.parametrize("command", OBJECTS)
def test_one_thing_is_an_object_as_json(agent, agentctl, command):
    done = agentctl("--json", "-f", agent.config, *command.split())
    assert (done.code, done.err) == (0, "")
    assert isinstance(json.loads(done.out), dict)


@pytest.mark.parametrize("command", [*ARRAYS, *OBJECTS, "kernels logs k1", "config show --live"])
def test_every_command_has_a_form_for_people(agent, agentctl, command):
    done = agentctl(*command.split(), "-f", agent.config)
    assert done.code == 0
    assert done.out.strip()
    assert not done.out.startswith(("{", "["))


def test_people_read_sizes_where_machines_read_bytes(agent, agentctl):
    assert "cuda.shares=0.5 mem=512 MiB" in agentctl("devices", "list", "-f", agent.config).out
    (device,) = json.loads(agentctl("devices", "list", "--json", "-f", agent.config).out)
    assert device["used"]["mem"] == str(1 << 29)


def test_people_are_not_told_twice_what_became_of_a_kernel(agent, agentctl):
    first = agentctl("events", "-f", agent.config).out.splitlines()[0]
    assert first.split()[2:] == ["kernel.preparing", "k1"]
    told = json.loads(agentctl("events", "--json", "-f", agent.config).out)[0]["data"]
    assert told == {"from": None, "to": "PREPARING", "incarnation": 1}


def test_what_a_plugin_raised_cannot_colour_the_terminal(agent, agentctl):
    done = agentctl("plugins", "why", "mock", "-f", agent.config)
    assert "Error: \\x1b[31mred" in done.out


def test_a_plugin_and_a_kernel_have_the_documented_fields(agent, agentctl):
    (plugin,) = json.loads(agentctl("plugins", "list", "--live", "--json", "-f", agent.config).out)
    wanted = {"name", "kind", "state", "distribution", "version", "contract", "reason"}
    assert wanted <= set(plugin)
    (kernel,) = json.loads(agentctl("kernels", "list", "--json", "-f", agent.config).out)
    assert {"kernel_id", "session_id", "state", "image", "reason", "exit_code"} <= set(kernel)


@pytest.mark.parametrize(
    "order",
    [
        ["-f", "{config}", "--json", "kernels", "list"],
        ["kernels", "-f", "{config}", "list", "--json"],
        ["kernels", "list", "-f", "{config}", "--json"],
        ["--agent", "{socket}", "kernels", "--json", "list"],
        ["kernels", "list", "--json", "--agent", "unix://{socket}"],
        ["--agent", "/nowhere", "--json", "kernels", "list", "--agent", "{socket}"],
    ],
)
def test_the_common_options_stand_before_or_after_the_command(agent, agentctl, order):
    names = {"config": agent.config, "socket": agent.socket}
    done = agentctl(*(word.format_map(names) for word in order))
    assert done.code == 0
    assert json.loads(done.out)[0]["kernel_id"] == "k1"


def test_the_agent_can_be_named_by_a_variable(agent, agentctl, monkeypatch):
    monkeypatch.setenv("AGENT_ADDRESS", agent.socket)
    assert agentctl("kernels", "list").code == 0
    assert agentctl("kernels", "list", "--agent", "/nowhere").code == 3


def test_columns_are_aligned_and_sizes_readable(agent, agentctl):
    done = agentctl("slots", "-f", agent.config)
    titles, row = done.out.splitlines()
    assert "1 GiB" in row
    assert "1.5 GiB" in row
    assert titles.index("TOTAL") == row.index("1 GiB")


def test_warnings_of_the_agent_are_shown_and_cannot_forge_lines(agent, agentctl):
    done = agentctl("status", "-f", agent.config)
    assert done.err == "warning: beware\\nof lines\n"


def test_logs_are_decoded_whatever_they_hold(agent, agentctl):
    assert agentctl("kernels", "logs", "k1", "-f", agent.config).out == "café\n\ufffd\n"
    done = agentctl("kernels", "logs", "k1", "-f", agent.config, "--json")
    assert json.loads(done.out) == {"kernel_id": "k1", "text": "café\n\ufffd\n"}


def test_followed_events_are_one_object_in_each_line(agent, agentctl):
    done = agentctl("events", "--follow", "--progress", "--json", "-f", agent.config)
    names = [json.loads(line)["name"] for line in done.out.splitlines()]
    assert names == ["kernel.preparing", *["kernel.step"] * 3, "kernel.running"]


def test_creating_waits_and_shows_each_step_once(agent, agentctl):
    done = agentctl(
        *("kernels", "create", "--image", "python", "--slot", "cpu=1", "--slot", "mem=256m"),
        *("--port", "web:http:8080", "--port", "tb:tcp:[6006,6007]"),
        *("--env", "A=b=c", "--kernel-id", "k1", "--session-id", "s1", "-f", agent.config),
    )
    assert (done.code, done.out) == (0, "k1\n")
    assert done.err.splitlines() == ["     1.0 ms  slots", "   250.0 ms  start", "  running"]
    assert agent.services.specs == [
        {
            "image": "python",
            "slots": {"cpu": "1", "mem": "256m"},
            "env": {"A": "b=c"},
            "session_id": "s1",
            "kernel_id": "k1",
            "ports": ["web:http:8080", "tb:tcp:[6006,6007]"],
        }
    ]


@pytest.mark.parametrize(("flag", "state"), [("--wait", "RUNNING"), ("--no-wait", "PREPARING")])
def test_created_is_an_object_with_its_id(agent, agentctl, flag, state):
    done = agentctl("kernels", "create", "--image", "p", flag, "--json", "-f", agent.config)
    created = json.loads(done.out)
    assert created == {"kernel_id": "k1", "session_id": "s1", "state": state}
    assert done.err == ""


def test_a_kernel_that_fails_to_start_is_an_error_with_its_reason(agent, agentctl):
    agent.services.final = "TERMINATED"
    done = agentctl("kernels", "create", "--image", "p", "-f", agent.config)
    assert done.code == 1
    assert "error[kernel-failed]" in done.err
    assert "failed-to-start: no such interpreter" in done.err
    error = json.loads(
        agentctl("kernels", "create", "--image", "p", "-f", agent.config, "--json").out
    )["error"]
    assert error["details"]["kernel_id"] == "k1"
    assert error["details"]["exit_code"] == 127


def test_a_refusal_is_one_message_one_hint_and_exit_code_1(agent, agentctl):
    command = ["kernels", "create", "--image", "p", "--slot", "cpu=99", "-f", agent.config]
    done = agentctl(*command)
    assert (done.code, done.out) == (1, "")
    message, hint = done.err.splitlines()
    assert message == "error[insufficient-resource]: cpu=99 is more than is free"
    assert hint.startswith("hint: ")
    error = json.loads(agentctl(*command, "--json").out)["error"]
    assert error["code"] == "insufficient-resource"
    assert error["details"] == {"slot": "cpu"}


def test_one_kernel_that_cannot_be_destroyed_does_not_keep_the_others(agent, agentctl):
    done = agentctl("kernels", "destroy", "gone", "k1", "-f", agent.config)
    assert done.code == 1
    assert done.out == "k1  TERMINATED (user-requested)\n"
    assert "error[not-found]" in done.err
    first, second = json.loads(
        agentctl("kernels", "destroy", "gone", "k1", "--no-wait", "--json", "-f", agent.config).out
    )
    assert first["error"]["code"] == "not-found"
    assert second["state"] == "TERMINATING"


def test_the_schemas_describe_what_is_printed(agent, agentctl):
    for command in json.loads(agentctl("schema", "--json").out):
        schema = json.loads(agentctl("schema", *command.split()).out)
        assert schema["type"] in ("array", "object")
    status = json.loads(agentctl("status", "--json", "-f", agent.config).out)
    assert set(status) == set(m.Status.model_fields)


def test_a_reconciliation_says_what_and_why_and_what_was_done_only_when_it_was(agent, agentctl):
    planned = agentctl("reconcile", "--dry-run", "-f", agent.config)
    assert planned.out.split() == [
        *["KIND", "KEY", "VERDICT", "BECAUSE", "kernel", "k1", "end", "it", "is", "absent"]
    ]
    assert "2 of 3 kernels are as the ledger says" in planned.err
    assert "warning: the backend\\nis mute" in planned.err
    done = agentctl("reconcile", "-f", agent.config)
    assert done.out.split()[-4:] == ["it", "is", "absent", "ending"]


@pytest.mark.parametrize(("outcomes", "code"), [([], 0), (["left"], 0), (["left", "failed"], 1)])
def test_mending_fails_when_something_could_not_be_given_back(agent, agentctl, outcomes, code):
    agent.services.mended = outcomes
    done = agentctl("leaks", "--fix", "-f", agent.config)
    assert done.code == code
    assert ("nothing is held by nobody" in done.err) == (not outcomes)


def test_people_are_told_why_a_device_is_degraded_and_why_one_is_withheld(agent, agentctl):
    row = {"plugin": "mock", "model": "M", "offers": ["cuda.shares"], "used": {}}
    hot = m.DeviceRow(id="gpu0", health="degraded", evidence="it is hot", **row)
    why = {"evidence": "XID 79", "withheld": "lost: XID 79"}
    lost = m.DeviceRow(id="gpu1", health="lost", **why, **row)
    agent.services.devices = lambda: [hot, lost]

    printed = agentctl("devices", "list", "-f", agent.config).out.splitlines()

    assert printed[0].split()[-2:] == ["WITHHELD", "EVIDENCE"]
    assert printed[1].endswith("it is hot")
    assert "lost: XID 79" in printed[2]

    agent.services.devices = lambda: [lost]
    assert "EVIDENCE" not in agentctl("devices", "list", "-f", agent.config).out
