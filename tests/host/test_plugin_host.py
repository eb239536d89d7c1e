"""The host as a whole: what is ready, what is not and why, and how one asks."""

from __future__ import annotations

import asyncio

import pytest

from agent_core.config.selection import Selection
from agent_core.contracts.errors import AmbiguousId, NotFound, PluginError
from agent_core.host.plugin_host import PluginHost
from agent_core.host.states import PluginState as S
from agent_core.host.tables import PluginTables
from agent_core.host.why import explain
from agent_core.wire.models import PluginDetail, PluginRow


def opened(host: PluginHost) -> PluginHost:
    async def main() -> None:
        await host.open_all()
        await host.close_all()

    asyncio.run(main())
    return host


def test_a_whole_node_is_loaded_opened_and_closed(site):
    site.install("acme")
    site.install("process", kind="backend")
    site.install("docker", kind="backend")
    site.install("hostdir", kind="scratch")
    site.install("default", kind="runner")
    host = site.host()

    async def main() -> None:
        await host.open_all()
        assert list(host.devices()) == ["acme"]
        assert host.backend.info.name == "process"
        assert (await host.runner.call("launch", None)).argv == ("/bin/true",)
        assert await host.scratch.call("list") == []
        await host.close_all()

    asyncio.run(main())
    assert host.notices == ()
    assert {record.name: record.state for record in host.records()} == {
        "acme": S.READY,
        "process": S.READY,
        "docker": S.NOT_SELECTED,
        "hostdir": S.READY,
        "default": S.READY,
    }


def test_each_plugin_gets_its_own_section_and_opens_beside_the_others(site):
    body = """
    together = None
    def open(self, config):
        self.config = config
        import builtins
        builtins.barrier_of_the_test.wait(5)
    """
    import builtins
    import threading

    builtins.barrier_of_the_test = threading.Barrier(3)
    try:
        for name in ("one", "two", "three"):
            site.install(name, body=body)
        host = site.host({"one": {"n": 1}, "two": {"n": 2}})

        async def main() -> None:
            await host.open_all(5)
            assert {n: p.instance.config for n, p in host.devices().items()} == {
                "one": {"n": 1},
                "two": {"n": 2},
                "three": {},
            }
            await host.close_all()

        asyncio.run(main())
    finally:
        del builtins.barrier_of_the_test


def test_asking_for_what_is_not_there_says_how_to_get_it(site):
    site.install("docker", kind="backend")
    host = opened(site.host(backend="dokcer", scratch="memory"))
    with pytest.raises(PluginError, match="installed: docker") as caught:
        _ = host.backend
    assert "Did you mean 'docker'?" in caught.value.hint
    with pytest.raises(PluginError, match="not installed") as caught:
        _ = host.scratch
    assert "pip install scratch-memory" in caught.value.hint
    with pytest.raises(PluginError, match="not installed") as caught:
        _ = host.runner
    assert "pip install agent-kernel-runner" in caught.value.hint


def test_asking_for_what_failed_says_why(site):
    site.install("process", "import acmert", kind="backend")
    host = opened(site.host())
    with pytest.raises(PluginError, match="is import-failed: cannot be imported") as caught:
        _ = host.backend
    assert "provides the module 'acmert'" in caught.value.hint


def test_asking_before_anything_was_loaded_is_told_apart():
    with pytest.raises(PluginError, match="has not loaded anything yet"):
        _ = PluginHost(Selection(), PluginTables(), ()).backend


def test_records_are_found_by_name_kind_and_distribution(site):
    site.install("mock", dist="accel-mock")
    site.install("mock", kind="scratch", dist="scratch-mock")
    site.install("acme")
    host = site.host(scratch="mock")
    assert host.record("acme").kind == "device"
    assert host.record("scratch:mock").kind == "scratch"
    assert host.record("Accel_Mock:mock").kind == "device"
    with pytest.raises(AmbiguousId, match="device:mock, scratch:mock"):
        host.record("mock")
    with pytest.raises(NotFound) as caught:
        host.record("acmee")
    assert caught.value.hint == "Did you mean 'acme'?"


def test_of_two_contracts_the_one_that_loaded_is_shown(site):
    site.install("acme", "raise SystemExit", dist="acme", contract=7)
    # One distribution with both groups: the second install adds to the first one's file.
    info = site.install("acme", dist="acme")
    with (info / "entry_points.txt").open("a") as file:
        file.write("[agent_core.device.v7]\nacme = acme_1.plugin\n")
    host = opened(site.host())
    assert {r.candidate.contract: r.state for r in host.records()} == {
        1: S.READY,
        7: S.WRONG_CONTRACT,
    }
    assert host.record("acme").candidate.contract == 1


def test_rows_and_details_are_the_wire_models_fields(site):
    slots = "slots=(SlotInfo('acme.device', SlotType.COUNT),), capabilities={'mig': Support.NO}"
    site.install("acme", info=slots)
    site.install("bad", "1 / 0")
    host = opened(site.host())
    rows = [PluginRow(**row) for row in host.rows()]
    assert [(row.name, row.state, row.contract) for row in rows] == [
        ("acme", "ready", "v1"),
        ("bad", "import-failed", "v1"),
    ]
    assert rows[0].load_ms is not None
    detail = PluginDetail(**host.detail("acme"))
    assert detail.slots[0]["name"] == "acme.device"
    assert detail.slots[0]["type"] == "count"
    assert detail.capabilities == {"mig": "no"}
    assert [step.step for step in detail.trail][-3:] == ["import", "open", "close"]
    assert PluginDetail(**host.detail("bad")).traceback.startswith("Traceback")


def test_a_live_detail_shows_the_lanes(site):
    site.install("acme")
    host = site.host()

    async def main() -> None:
        await host.open_all()
        lanes = {lane["lane"]: lane for lane in host.detail("acme")["lanes"]}
        assert lanes["control"]["calls"] == 1
        assert lanes["measure"]["calls"] == 0
        await host.close_all()

    asyncio.run(main())


def test_why_tells_the_trail_then_the_traceback_then_the_fix(site):
    site.install("acme", "def f():\n    import acmert\nf()", dist="accel-acme")
    text = explain(opened(site.host()).detail("acme"))
    lines = text.splitlines()
    assert lines[0] == "device acme (accel-acme 1.0, contract v1)"
    assert lines[1].startswith("is import-failed: importing it failed")
    assert "No module named 'acmert'" in lines[2]
    sections = ["How it came to this", "What was raised", "What to do"]
    places = [lines.index(section) for section in sections]
    assert places == sorted(places)
    raised = "\n".join(lines[places[1] : places[2]])
    assert "accel_acme_1/plugin.py" in raised
    assert "agent_core/host" not in raised
    assert "importlib" not in raised


def test_a_trail_stays_short_however_often_a_plugin_comes_and_goes(site):
    site.install("acme")
    record = opened(site.host()).record("acme")
    for _ in range(500):
        record.note("call", "degraded", state=S.DEGRADED)
        record.note("call", "ready", state=S.READY)
    assert len(record.standing.trail) < 100
    assert record.standing.trail[0].step == "found"


def test_a_state_that_cannot_follow_is_a_defect_and_changes_nothing(site):
    site.install("acme", dist="acme")
    record = site.host(block=("acme",)).record("acme")
    before = record.standing
    with pytest.raises(ValueError, match="cannot go from blocked to ready"):
        record.note("open", "ready", state=S.READY)
    assert record.standing is before


def test_without_candidates_the_interpreters_own_path_is_scanned():
    host = PluginHost(Selection(allow=()), PluginTables())
    host.load()
    assert {r.name for r in host.records() if r.candidate.dist == "agent-core"} == {"cpu", "mem"}
