"""The states of a plugin, what each means, and which may follow which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class PluginState(StrEnum):
    """Where a plugin stands; every candidate is in exactly one state."""

    FOUND = "found"
    NOT_ALLOWED = "not-allowed"
    BLOCKED = "blocked"
    NOT_SELECTED = "not-selected"
    WRONG_CONTRACT = "wrong-contract"
    DUPLICATE = "duplicate"
    IMPORT_FAILED = "import-failed"
    DISABLED = "disabled"
    INIT_FAILED = "init-failed"
    READY = "ready"
    DEGRADED = "degraded"
    QUARANTINED = "quarantined"

    @property
    def meaning(self) -> str:
        """Say in one line what the state means."""
        return MEANINGS[self]

    @property
    def usable(self) -> bool:
        """Whether calls into a plugin of this state are made."""
        return self in (PluginState.READY, PluginState.DEGRADED)

    def may_become(self, other: PluginState) -> bool:
        """Whether `other` may follow this state."""
        return other in TRANSITIONS[self]


MEANINGS: Final[dict[PluginState, str]] = {
    PluginState.FOUND: "installed and admitted by the configuration, not loaded yet",
    PluginState.NOT_ALLOWED: "an allow list exists and does not name it; it was not imported",
    PluginState.BLOCKED: "a block list names it; it was not imported",
    PluginState.NOT_SELECTED: "the configuration selects another of its kind; it was not imported",
    PluginState.WRONG_CONTRACT: "made for another agent-core or contract; it was not imported",
    PluginState.DUPLICATE: "two installed plugins have its name; it was not imported",
    PluginState.IMPORT_FAILED: "importing it failed, or it is not what its contract says",
    PluginState.DISABLED: "it loaded and found nothing to do on this node",
    PluginState.INIT_FAILED: "opening it failed or took too long",
    PluginState.READY: "open and answering",
    PluginState.DEGRADED: "open, but a call passed its deadline, or its worker is down",
    PluginState.QUARANTINED: "it hung or crashed again and again; it is not called any more",
}
"""What each state means, in one line."""

_REFUSALS = frozenset(
    {
        PluginState.NOT_ALLOWED,
        PluginState.BLOCKED,
        PluginState.NOT_SELECTED,
        PluginState.WRONG_CONTRACT,
        PluginState.DUPLICATE,
    }
)
_LOADED = frozenset(
    {
        PluginState.IMPORT_FAILED,
        PluginState.DISABLED,
        PluginState.INIT_FAILED,
        PluginState.READY,
    }
)

TRANSITIONS: Final[dict[PluginState, frozenset[PluginState]]] = {
    **{state: frozenset() for state in PluginState},
    PluginState.FOUND: _REFUSALS | _LOADED,
    # A backend is ready before it has connected; connecting can still fail or find nothing.
    PluginState.READY: frozenset(
        {PluginState.DEGRADED, PluginState.INIT_FAILED, PluginState.DISABLED}
    ),
    PluginState.DEGRADED: frozenset(
        {PluginState.READY, PluginState.QUARANTINED, PluginState.INIT_FAILED}
    ),
    # Only an operator's reset leads out of it, and only where the plugin has a worker.
    PluginState.QUARANTINED: frozenset({PluginState.DEGRADED}),
}
"""For each state, the states that may follow it."""


class TrailStep(NamedTuple):
    """One step of the decision about a plugin: what was looked at, what came out, and why."""

    step: str
    outcome: str
    detail: str = ""
