"""What is told of plugins that hang and crash: once, durable, and without a flood."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from agent_core.contracts.errors import LedgerFailed
from agent_core.events import plugins
from agent_core.events.bus import EventBus
from agent_core.events.plugins import PluginEvents
from agent_core.host.states import PluginState as S
from agent_core.ledger import Ledger
from agent_core.wire.events import EVENTS


def plugin(state, reason="", *, is_down=False):
    record = SimpleNamespace(kind="device", name="acme", state=state, reason=reason)
    return SimpleNamespace(record=record, is_down=is_down)


DIED = plugin(S.DEGRADED, "its worker was killed", is_down=True)
SLOW = plugin(S.DEGRADED, "still in devices()")
BACK = plugin(S.READY)
GIVEN_UP = plugin(S.QUARANTINED, "5 times in 120 s")


@pytest.fixture
def told(tmp_path):
    """Says of changes in their order what became durable of them, and was published."""

    def run(*changes, quiet=120.0):
        return asyncio.run(_told(tmp_path / "ledger.db", changes, quiet))

    return run


async def _told(path, changes, quiet):
    ledger = Ledger(path)
    ledger.open()
    events, bus = PluginEvents(quiet), EventBus(ledger)
    for change in changes:
        events.changed(change)
    following = asyncio.create_task(events.follow(ledger, bus))
    # A marker at the end, so that nothing has to be waited for that does not come.
    events.changed(SimpleNamespace(record=_END, is_down=False))
    found = []
    async for item in bus.watch(None, since=None, follow=True, progress=False):
        if item.data["plugin"] == "end":
            break
        assert item.id
        assert set(item.data) == set(EVENTS[item.name].data)
        found.append((item.name, item.data["reason"]))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    ledger.close()
    return found


_END = SimpleNamespace(kind="device", name="end", state=S.QUARANTINED, reason="")


def test_a_crash_loop_is_three_events_however_often_it_crashes(told):
    assert told(*[DIED, BACK] * 4, DIED, GIVEN_UP, GIVEN_UP) == [
        ("plugin.down", "its worker was killed"),
        ("plugin.ready", "its worker was killed"),
        ("plugin.quarantined", "5 times in 120 s"),
    ]


def test_a_death_is_told_again_once_the_last_one_is_long_ago(told):
    names = [name for name, _ in told(DIED, BACK, DIED, BACK, quiet=0)]
    assert names == ["plugin.down", "plugin.ready"] * 2


def test_what_ends_a_quarantine_is_told(told):
    reset = plugin(S.DEGRADED, "reset by an operator", is_down=True)
    assert told(GIVEN_UP, reset, BACK) == [
        ("plugin.quarantined", "5 times in 120 s"),
        ("plugin.ready", "5 times in 120 s"),
    ]


def test_a_slow_call_is_no_event(told):
    assert told(SLOW, BACK, SLOW, BACK) == []


def test_a_ledger_that_cannot_be_written_loses_no_event(told, monkeypatch):
    write, refusals = Ledger.write, [LedgerFailed("disk full")]

    async def full_at_first(self, *args):
        if refusals:
            raise refusals.pop()
        return await write(self, *args)

    monkeypatch.setattr(Ledger, "write", full_at_first)
    monkeypatch.setattr(plugins, "_RETRY", 0)
    assert [name for name, _ in told(GIVEN_UP)] == ["plugin.quarantined"]
