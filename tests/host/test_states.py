"""The states form a graph without surprises, and each says what it means."""

from __future__ import annotations

import pytest

from agent_core.host.states import TRANSITIONS, PluginState


@pytest.mark.parametrize("state", PluginState)
def test_every_state_has_a_meaning_and_is_reached_from_found(state):
    assert state.meaning
    reached = {PluginState.FOUND}
    while more := {n for s in reached for n in TRANSITIONS[s]} - reached:
        reached |= more
    assert state in reached


def test_a_refused_plugin_never_loads():
    for state in (PluginState.BLOCKED, PluginState.NOT_ALLOWED, PluginState.DUPLICATE):
        assert not TRANSITIONS[state]
    assert not PluginState.FOUND.may_become(PluginState.QUARANTINED)


def test_only_ready_and_degraded_plugins_are_called():
    assert [s for s in PluginState if s.usable] == [PluginState.READY, PluginState.DEGRADED]
