"""A corpus of broken plugins: each has its state, its reason and its hint, and costs nobody else.

Every case runs beside two good plugins, which must be ready whatever the bad one does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_core.contracts.device import ComputeDevice
from agent_core.host import loader
from agent_core.host.states import PluginState as S
from agent_core.host.why import explain


@dataclass
class Bad:
    """One broken plugin: what is added to a good one, or its source; and what is recorded."""

    id: str
    state: S
    reason: str
    hint: str = ""
    traceback: str = ""
    source: str | None = None
    parts: dict[str, str] = field(default_factory=dict)


HOOK = "from agent_core.hookspecs import hookimpl\n@hookimpl\n"

AT_IMPORT = [
    Bad(
        "raises-at-import",
        S.IMPORT_FAILED,
        "ValueError: no luck",
        "traceback",
        'ValueError("no luck")',
        source='raise ValueError("no luck")',
    ),
    Bad(
        "lacks-a-module",
        S.IMPORT_FAILED,
        "No module named 'acmert'",
        "provides the module 'acmert'",
        "import acmert",
        source="import acmert",
    ),
    Bad(
        "has-a-syntax-error",
        S.IMPORT_FAILED,
        "SyntaxError",
        "traceback",
        "def broken(:",
        source="def broken(:",
    ),
    Bad(
        "exits-at-import",
        S.IMPORT_FAILED,
        "called sys.exit(3)",
        "traceback",
        "sys.exit(3)",
        source="import sys\nsys.exit(3)",
    ),
    Bad(
        "exits-in-its-hook",
        S.IMPORT_FAILED,
        "called sys.exit(None)",
        "traceback",
        "raise SystemExit",
        source=f"{HOOK}def register_device():\n    raise SystemExit",
    ),
    Bad(
        "raises-one-of-our-errors",
        S.IMPORT_FAILED,
        "PluginDisabled: not here",
        "traceback",
        "not here",
        source="from agent_core.contracts.errors import *\nraise PluginDisabled('not here')",
    ),
    Bad(
        "raises-nothing-usual",
        S.IMPORT_FAILED,
        "GeneratorExit",
        "traceback",
        "GeneratorExit",
        source="raise GeneratorExit",
    ),
    Bad(
        "misspells-its-hook",
        S.IMPORT_FAILED,
        "register_devcie",
        "The hooks are register_backend, register_device",
        source=f"{HOOK}def register_devcie():\n    pass",
    ),
    Bad(
        "wants-arguments",
        S.IMPORT_FAILED,
        "declares a wrong hook",
        "agent_core.hookspecs",
        source=f"{HOOK}def register_device(gpu):\n    pass",
    ),
    Bad(
        "forgot-the-mark",
        S.IMPORT_FAILED,
        "without the mark",
        "@hookimpl",
        source="def register_device():\n    pass",
    ),
    Bad(
        "has-the-hook-of-another-kind",
        S.IMPORT_FAILED,
        "only register_backend",
        "register_device",
        source=f"{HOOK}def register_backend():\n    pass",
    ),
    Bad(
        "has-no-hook",
        S.IMPORT_FAILED,
        "no hook register_device()",
        "decorated with @hookimpl",
        source="x = 1",
    ),
    Bad(
        "hands-over-nothing",
        S.IMPORT_FAILED,
        "missing is no class",
        "conformance kit",
        source=f"{HOOK}def register_device():\n    pass",
    ),
    Bad(
        "hands-over-an-object",
        S.IMPORT_FAILED,
        "str is no class",
        "conformance kit",
        source=f"{HOOK}def register_device():\n    return 'Acme'",
    ),
    Bad(
        "hands-over-another-class",
        S.IMPORT_FAILED,
        "does not derive from ComputeDevice",
        "conformance kit",
        source=f"{HOOK}def register_device():\n    return dict",
    ),
    Bad(
        "lacks-methods",
        S.IMPORT_FAILED,
        "does not implement describe, devices",
        "conformance kit",
        source="from agent_core.contracts.device import ComputeDevice\n"
        "from agent_core.contracts.info import PluginInfo\n"
        "class Half(ComputeDevice):\n    info = PluginInfo('device', 'bad')\n"
        f"{HOOK}def register_device():\n    return Half",
    ),
    Bad(
        "lacks-info",
        S.IMPORT_FAILED,
        "its info is missing",
        "conformance kit",
        parts={"body": "info = None"},
    ),
    Bad(
        "has-info-of-a-wrong-type",
        S.IMPORT_FAILED,
        "its info is dict",
        "conformance kit",
        parts={"body": "info = {}"},
    ),
    Bad(
        "has-another-name-and-kind",
        S.IMPORT_FAILED,
        "the name 'good', its entry point 'bad'",
        "conformance kit",
        parts={"body": "info = PluginInfo('scratch', 'good')"},
    ),
    Bad(
        "is-async",
        S.IMPORT_FAILED,
        "its devices() is async",
        "conformance kit",
        parts={"body": "async def devices(self): return []"},
    ),
    Bad(
        "takes-cores-slots",
        S.IMPORT_FAILED,
        "its slot 'mem' is not named like bad.device",
        "conformance kit",
        parts={"info": "slots=(SlotInfo('mem', SlotType.BYTES),)"},
    ),
    Bad(
        "has-no-time",
        S.IMPORT_FAILED,
        "its deadline of open is -1",
        "conformance kit",
        parts={"info": "deadlines={'open': -1}"},
    ),
    Bad(
        "has-an-unreadable-schema",
        S.IMPORT_FAILED,
        "'allOf', which this host does not check",
        "conformance kit",
        parts={"info": "config_schema={'allOf': []}"},
    ),
]

AT_OPEN = [
    Bad(
        "has-a-schema-of-nonsense",
        S.INIT_FAILED,
        "[plugin.bad] cannot be checked by its schema: TypeError",
        "conformance kit",
        parts={"info": "config_schema={'required': 5}"},
    ),
    Bad(
        "cannot-be-made",
        S.INIT_FAILED,
        "TypeError",
        "Mend",
        "missing 1 required positional",
        parts={"body": "def __init__(self, gpu): pass"},
    ),
    Bad(
        "raises-in-open",
        S.INIT_FAILED,
        "failed in open(): OSError: no driver",
        "Mend",
        'raise OSError("no driver")',
        parts={"body": 'def open(self, config):\n    raise OSError("no driver")'},
    ),
    Bad(
        "exits-in-open",
        S.INIT_FAILED,
        "failed in open(): SystemExit: 4",
        "Mend",
        "sys.exit(4)",
        parts={"body": "def open(self, config):\n    sys.exit(4)"},
    ),
    Bad(
        "is-disabled",
        S.DISABLED,
        "no /dev/acme",
        parts={"body": "def open(self, config):\n    raise PluginDisabled('no /dev/acme')"},
    ),
    Bad(
        "hangs-in-open",
        S.INIT_FAILED,
        "still in open() after 0.5 s",
        "Mend",
        parts={"body": "def open(self, config):\n    threading.Event().wait(30)"},
    ),
    Bad(
        "stops-iterating",
        S.INIT_FAILED,
        "StopIteration",
        "Mend",
        "StopIteration",
        parts={"body": "def open(self, config):\n    raise StopIteration"},
    ),
]


def ids(case: Bad) -> str:
    return case.id


def install_beside_good_ones(site, bad: Bad) -> None:
    site.install("alpha", dist="a-good-one")
    site.install("bad", bad.source, dist="m-bad-one", **bad.parts)
    site.install("omega", dist="z-good-one")


def opened(host, deadline: float = 0.2) -> Any:
    async def main() -> None:
        await host.open_all(deadline)
        await host.close_all()

    asyncio.run(main())
    return host


def assert_recorded(host, bad: Bad) -> None:
    assert {name: host.record(name).state for name in ("alpha", "omega")} == {
        "alpha": S.READY,
        "omega": S.READY,
    }
    record = host.record("bad")
    assert record.state is bad.state, record.reason
    assert bad.reason in record.reason
    assert bad.hint in record.hint
    assert bad.traceback in record.standing.traceback
    assert bool(bad.traceback) == bool(record.standing.traceback)
    text = explain(host.detail("bad"))
    assert bad.reason in text
    assert f"is {bad.state}" in text


@pytest.mark.parametrize("where", ["inline", "worker"])
@pytest.mark.parametrize("bad", AT_IMPORT, ids=ids)
def test_what_is_broken_at_import_is_recorded_and_the_others_are_ready(site, bad, where):
    install_beside_good_ones(site, bad)
    host = site.host(isolated=where == "worker")
    assert host.record("bad").state is bad.state
    assert_recorded(opened(host), bad)


@pytest.mark.parametrize("where", ["inline", "worker"])
@pytest.mark.parametrize("bad", AT_OPEN, ids=ids)
def test_what_is_broken_in_open_is_recorded_and_the_others_are_ready(site, bad, where):
    install_beside_good_ones(site, bad)
    assert_recorded(opened(site.host(isolated=where == "worker"), 0.5), bad)


def test_a_plugin_that_never_ends_its_import_costs_its_deadline_and_no_more(site, monkeypatch):
    monkeypatch.setattr(loader.load, "__defaults__", (0.2,))
    hanging = "import threading\nthreading.Event().wait(30)"
    bad = Bad("hangs", S.IMPORT_FAILED, "is still importing", "must be light", source=hanging)
    install_beside_good_ones(site, bad)
    assert_recorded(opened(site.host()), bad)


def test_an_operators_interrupt_at_import_is_not_taken_for_a_failure(site):
    site.install("bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.host()


def test_a_plugin_that_floods_its_output_is_ready_like_any_other(site, capfd):
    flood = "print('flood ' * 100_000)\nsys.stderr.write('flood ' * 100_000)"
    site.install("bad", prelude=flood)
    host = opened(site.host())
    assert host.record("bad").state is S.READY
    assert "flood" in capfd.readouterr().out


def test_two_plugins_of_one_name_are_both_recorded_and_neither_is_imported(site):
    site.install("twin", "raise SystemExit", dist="twin-one")
    site.install("twin", "raise SystemExit", dist="twin-two")
    site.install("alpha")
    host = opened(site.host())
    twins = [record for record in host.records() if record.name == "twin"]
    assert [record.state for record in twins] == [S.DUPLICATE, S.DUPLICATE]
    assert "twin-two 1.0" in twins[0].reason
    assert "twin-one 1.0" in twins[1].reason
    assert host.record("alpha").state is S.READY


def test_what_is_blocked_is_never_imported(site):
    site.install("bad", "raise SystemExit", dist="bad-one")
    record = site.host(block_devices=("bad-one",)).record("bad")
    assert record.state is S.BLOCKED
    assert record.standing.load_ms is None


def test_a_wrong_section_is_refused_with_all_its_faults_and_open_is_not_called(site):
    schema = "config_schema={'properties': {'mode': {'enum': ['a']}, 'n': {'type': 'integer'}}}"
    body = "def open(self, config):\n    raise AssertionError('opened')"
    site.install("bad", info=schema, body=body)
    host = opened(site.host({"bad": {"mode": "b", "n": "many"}}))
    record = host.record("bad")
    assert record.state is S.INIT_FAILED
    assert "[plugin.bad] mode is 'b'" in record.reason
    assert "[plugin.bad] n is 'many'" in record.reason
    assert "Mend [plugin.bad]" in record.hint
    assert record.standing.traceback == ""


def test_a_plugin_that_raises_or_hangs_in_close_keeps_no_other_from_closing(site, capfd):
    good = "def close(self):\n    print(self.info.name, 'closed')"
    site.install("alpha", body=good)
    site.install("hangs", body="def close(self):\n    threading.Event().wait(30)")
    site.install("raises", body="def close(self):\n    raise OSError('stuck')")
    site.install("omega", body=good)
    host = site.host()

    async def main() -> None:
        await host.open_all()
        await host.close_all(0.2)

    asyncio.run(main())
    assert capfd.readouterr().out.splitlines() == ["omega closed", "alpha closed"]
    last = {name: host.record(name).standing.trail[-1] for name in ("hangs", "raises", "alpha")}
    assert "still in close() after 0.2 s" in last["hangs"].detail
    assert "OSError: stuck" in last["raises"].detail
    assert last["alpha"].outcome == "done"


def test_a_plugin_whose_open_failed_is_closed_like_any_other(site, capfd):
    site.install("bad", body="def open(self, c): 1 / 0\ndef close(self): print('closed')")
    opened(site.host())
    assert capfd.readouterr().out == "closed\n"


def test_a_plugin_that_hangs_in_calls_is_degraded_then_quarantined_and_the_others_answer(site):
    body = "def devices(self):\n    threading.Event().wait(30)"
    site.install("bad", body=body, info="deadlines={'devices': 0.05}")
    site.install("alpha")
    host = site.host()

    async def main() -> list[S]:
        await host.open_all()
        bad, seen = host.devices()["bad"], []
        for _ in range(4):
            outcome = await asyncio.gather(bad.call(ComputeDevice.devices), return_exceptions=True)
            seen.append(type(outcome[0]).__name__)
            seen.append(host.record("bad").state)
            assert await host.devices()["alpha"].call(ComputeDevice.devices)
        assert "bad" not in host.devices()
        await host.close_all(0.2)
        return seen

    assert asyncio.run(main()) == [
        "PluginTimeout", S.DEGRADED,
        "PluginTimeout", S.DEGRADED,
        "PluginTimeout", S.QUARANTINED,
        "PluginError", S.QUARANTINED,
    ]  # fmt: skip
    record = host.record("bad")
    assert "still in devices() after 0.05 s" in record.reason
    assert "3 threads are stuck" in record.reason
    assert "restart the agent" in record.hint


def test_stuck_threads_do_not_keep_the_process_from_ending(site):
    site.install("bad", body="def open(self, config):\n    threading.Event().wait()")
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(site.path)!r})
from agent_core.config.selection import Selection
from agent_core.host.plugin_host import PluginHost
from agent_core.host.tables import PluginTables
host = PluginHost(Selection(), PluginTables())
host.load()
asyncio.run(host.open_all(0.1))
print(host.record("bad").state)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, "init-failed\n"), done.stderr
