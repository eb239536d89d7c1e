"""A changed configuration is taken over while kernels run, at SIGHUP and by command."""

from __future__ import annotations

import signal

import pytest


def test_what_is_safe_is_taken_over_while_a_kernel_runs(node):
    node.start()
    kernel = node.create()
    place(
        node,
        agent='region = "r"\ninstance-type = "t"\npublic-host = "p"\nscaling-group = "blue"\n'
        'advertised-rpc-addr = "n:1"\nallow-compute-plugins = ["cpu", "mem"]\n',
        rest="[debug]\nenabled = true\nasyncio = true\nlog-events = true\n",
    )
    done = node.json("config", "reload")
    assert done["applied"] == [
        *("agent.advertised-rpc-addr.host", "agent.advertised-rpc-addr.port"),
        *("agent.instance-type", "agent.public-host", "agent.region", "agent.scaling-group"),
        *("debug.asyncio", "debug.enabled", "debug.log-events"),
    ]
    assert done["needs_restart"] == ["agent.allow-compute-plugins"]
    status = node.ask("get_status")
    assert (status.region, status.instance_type, status.public_host) == ("r", "t", "p")
    assert (status.scaling_group, status.advertised_rpc_addr) == ("blue", "n:1")
    assert [c.code for c in status.conditions] == ["restart-needed"]
    assert "agent.allow-compute-plugins" in status.warnings[0]
    live = node.json("config", "show", "--live")
    assert live["debug"]["asyncio"] is True
    assert live["agent"]["allow-compute-plugins"] is None
    assert node.run(kernel, "print(6 * 7)")[0] == "42\n"
    node.destroy(kernel)
    assert node.await_line("kernel.terminated")


def test_at_a_signal_too_and_a_broken_file_changes_nothing(node):
    node.start()
    whole = node.config.read_text()
    node.config.write_text(whole + "[agnet]\n")
    node.process.send_signal(signal.SIGHUP)
    assert node.await_line("the configuration was not reloaded")
    (condition,) = node.ask("get_status").conditions
    assert condition.code == "reload-failed"
    assert "did you mean 'agent'?" in condition.message
    node.config.write_text(whole.replace('id = "', 'region = "r"\nid = "'))
    node.process.send_signal(signal.SIGHUP)
    assert node.await_line("the configuration was reloaded")
    status = node.ask("get_status")
    assert (status.region, status.conditions) == ("r", [])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_agent_runs_on_either_event_loop(node, loop):
    place(node, agent=f'event-loop = "{loop}"\n', rest="")
    node.start()
    kernel = node.create()
    assert node.run(kernel, "print(6 * 7)")[0] == "42\n"
    node.destroy(kernel)


def place(node, *, agent, rest):
    """Put keys into [agent] and tables at the end."""
    text = node.config.read_text()
    node.config.write_text(text.replace("[agent]\n", f"[agent]\n{agent}") + rest)


def test_devices_are_withheld_and_given_free_again_while_kernels_run(node):
    node.start()
    kernel = node.create(slots={"cpu": "1", "mem": "64m", "cuda.shares": "0.5"})
    whole = node.config.read_text()
    node.config.write_text(whole + '[resource.device-mask]\nmock = ["*"]\n')
    assert node.json("config", "reload")["applied"] == [
        "resource.device-mask",
        "resource.device-mask.mock",
    ]
    withheld = {row.plugin: row.withheld for row in node.ask("list_devices")}
    assert "masked by [resource.device-mask] '*'" in withheld["mock"]
    assert withheld["cpu"] == ""
    assert node.run(kernel, "print(6 * 7)")[0] == "42\n"
    node.config.write_text(whole)
    node.json("config", "reload")
    assert {row.withheld for row in node.ask("list_devices")} == {""}
    node.destroy(kernel)


def test_a_plugin_that_cannot_take_its_table_over_is_named(node):
    node.start()
    node.configure("[plugin.cpu]\ncores = [0]\n")
    assert node.json("config", "reload") == {
        "applied": [],
        "needs_restart": ["plugin.cpu"],
        "warnings": [],
    }
    node.configure("no-such-key = 1\n")
    said = node.agentctl("config", "reload", code=1)
    assert "no-such-key" in said
    assert "reload-failed" in [c.code for c in node.ask("get_status").conditions]
