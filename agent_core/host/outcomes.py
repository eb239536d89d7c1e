"""What becomes of a plugin that cannot be loaded or opened: its state, its reason, its remedy."""

from __future__ import annotations

import logging
from typing import Final

from agent_core.contracts.errors import (
    AgentError,
    PluginDisabled,
    PluginError,
    PluginTimeout,
    PluginUnavailable,
)
from agent_core.host import loader
from agent_core.host.report import PluginRecord
from agent_core.host.states import PluginState

_RETRY: Final = "Mend, reinstall or block it, then restart the agent; nothing else waits for it."

# `why` must not answer with the advice to ask `why`, and nothing is started again here.
_USELESS_HERE: Final = (PluginError.hint, PluginUnavailable.hint)

_log = logging.getLogger(__name__)


def record_import(record: PluginRecord, exc: PluginError) -> None:
    """Record that a plugin cannot be imported."""
    reason = str(exc.details.get("reason", exc.message))
    record_failure(record, "import", PluginState.IMPORT_FAILED, reason, exc)


def record_opening(record: PluginRecord, stage: str, exc: AgentError) -> None:
    """Record that a plugin has nothing to do here, or cannot be opened."""
    reason = exc.message
    if isinstance(exc, PluginDisabled):
        record.note(stage, "disabled", reason, state=PluginState.DISABLED, reason=reason)
        return
    if isinstance(exc, PluginUnavailable):
        reason = str(exc.details.get("reason", reason))
    elif isinstance(exc, PluginTimeout):
        reason = reason.removeprefix(f"{record.label} is ")
    elif exc.__cause__ is not None:
        reason = reason.removeprefix(f"{record.label} ")
    record_failure(record, stage, PluginState.INIT_FAILED, reason, exc)


def record_failure(
    record: PluginRecord, step: str, state: PluginState, reason: str, exc: AgentError
) -> None:
    """Record a failure with its state, and log it."""
    hint = _RETRY if exc.hint in _USELESS_HERE else exc.hint or ""
    record.note(
        step,
        "failed",
        reason,
        state=state,
        reason=reason,
        hint=hint,
        traceback=loader.traceback_text(exc),
    )
    _log.warning("%s is %s: %s", record.label, state, reason)
