"""What each plugin is opened with, and which tables nobody reads."""

from __future__ import annotations

import pytest

from agent_core.config.selection import Selection
from agent_core.contracts.errors import PluginContractBroken
from agent_core.contracts.info import PluginInfo
from agent_core.host.candidates import Candidate
from agent_core.host.policy import decide
from agent_core.host.tables import PluginTables

SCHEMA = {"type": "object", "properties": {"root": {"type": "string"}, "seed": {}}}


def info(kind="scratch", name="hostdir", schema=SCHEMA, sections=()):
    return PluginInfo(kind=kind, name=name, config_schema=schema, sections=sections)


def test_a_plugin_is_told_what_its_schema_knows_and_its_own_table_wins():
    tables = PluginTables({"hostdir": {"seed": 1}})
    tables.offer("scratch", root="/scratches", owner="i-one")
    assert tables.of(info(), "hostdir") == {"root": "/scratches", "seed": 1}
    assert tables.of(info(schema={}), "hostdir") == {"seed": 1}
    tables.own = {"hostdir": {"root": "/mine"}}
    assert tables.of(info(), "hostdir") == {"root": "/mine"}


def test_sections_that_a_plugin_declares_are_nested_in_its_table():
    sections = {"agent.delay": {"pull": 1}, "agent.image": {}, "kernel": {"fake": True}}
    tables = PluginTables({"dummy": {"seed": 1}}, sections=sections)
    declared = info("backend", "dummy", sections=("agent.delay", "kernel", "agent.missing"))
    assert tables.of(declared, "dummy") == {
        "seed": 1,
        "agent": {"delay": {"pull": 1}},
        "kernel": {"fake": True},
    }


def test_tables_that_nobody_reads_are_named():
    tables = PluginTables({"dumy": {}, "mock": {}}, sections={"agent.delay": {"pull": 1}})
    names = ["dummy", "mock"]
    assert [*tables.unread(names, [info()])] == [
        "[plugin.dumy] has no effect: no plugin of that name; did you mean [plugin.dummy]?",
        "[agent.delay] has no effect: no plugin that is loaded reads it",
    ]
    assert len([*tables.unread(names, [info(sections=("agent.delay",))])]) == 1


def test_a_backend_stands_in_for_the_node_of_cpu_and_mem_alone():
    tables = PluginTables()
    tables.offer("device:cpu", reserved=1)
    tables.stand_in("dummy", {"cpu": {"cores": [0, 1]}})
    assert tables.offered["device:cpu"] == {"reserved": 1, "cores": [0, 1], "simulated": True}
    for wrong in (None, {"cuda": {}}, {"cpu": [0, 1]}):
        with pytest.raises(PluginContractBroken, match="stand_ins"):
            tables.stand_in("dummy", wrong)


def test_what_is_left_open_comes_with_the_backend():
    def brought(kind, name, dist):
        return Candidate(kind, name, 1, "x.plugin", dist, "0.1")

    found = [
        brought("backend", "dummy", "agent-backend-dummy"),
        brought("scratch", "dummy", "Agent_Backend_Dummy"),
        brought("scratch", "hostdir", "scratch-hostdir"),
        brought("runner", "default", "agent-kernel-runner"),
    ]
    left_open = decide(found, Selection(backend="dummy")).selection
    assert (left_open.scratch, left_open.runner) == ("dummy", "default")
    chosen = decide(found, Selection(backend="dummy", scratch="hostdir")).selection
    assert chosen.scratch == "hostdir"
    assert decide(found, Selection(backend="process")).selection.scratch == "hostdir"
