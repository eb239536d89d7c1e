"""Lifting the quarantine of a plugin from the command line."""

from __future__ import annotations

import json


def test_a_plugin_that_is_ready_again_is_told(agent, agentctl):
    done = agentctl("plugins", "reset", "mock", "-f", agent.config)
    assert (done.code, done.out) == (0, "device mock is ready\n")
    done = agentctl("plugins", "reset", "mock", "--json", "-f", agent.config)
    assert json.loads(done.out)["state"] == "ready"


def test_a_plugin_that_failed_again_is_an_error_with_its_reason(agent, agentctl):
    done = agentctl("plugins", "reset", "bad", "-f", agent.config)
    assert done.code == 1
    assert "degraded: its worker was killed by SIGABRT in open()" in done.err
