"""`agentctl sessions`: kernels that are created, listed and destroyed as one."""

import json

import pytest


def test_a_session_is_created_with_its_kernels_and_waited_for(agent, agentctl):
    done = agentctl("sessions", "create", "--image", "python", "--size", "2", "-f", agent.config)
    assert done.code == 0
    assert done.out.splitlines() == ["s1  s1-main1  RUNNING", "s1  s1-sub1  RUNNING"]


def test_roles_say_how_many_kernels_there_are_of_each(agent, agentctl):
    command = ["sessions", "create", "--image", "python", "--role", "main=1", "--role", "ps=1"]
    done = agentctl(*command, "--no-wait", "--json", "-f", agent.config)
    assert [k["state"] for k in json.loads(done.out)["kernels"]] == ["PREPARING", "PREPARING"]
    assert [spec["role"] for spec in agent.services.specs] == ["main", "ps"]


@pytest.mark.parametrize("role", ["main", "main=0", "main=many", "main=257"])
def test_a_role_needs_a_count(agent, agentctl, role):
    done = agentctl("sessions", "create", "--image", "python", "--role", role, "-f", agent.config)
    assert done.code == 2
    assert "--role" in done.err


def test_a_kernel_that_does_not_run_fails_the_command_with_its_reason(agent, agentctl):
    agent.services.final = "TERMINATED"
    done = agentctl("sessions", "create", "--image", "python", "--size", "2", "-f", agent.config)
    assert done.code == 1
    assert "failed-to-start" in done.err


def test_destroying_a_session_names_its_kernels(agent, agentctl):
    done = agentctl("sessions", "destroy", "s1", "-f", agent.config)
    assert done.out.splitlines() == ["k1  TERMINATED (user-requested)"]
    assert agentctl("sessions", "destroy", "gone", "-f", agent.config).code == 1
