"""Reading what the engine says of containers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from agent_backend_docker.arguments import OWNER, RECORD
from agent_core.contracts.backend import ContainerState, ContainerStatus, ExitStatus, Presence

_STATES: Final = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "removing": ContainerState.EXITED,
    "exited": ContainerState.EXITED,
    "stopped": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
}
_NO_TIME: Final = "0001-01-01T00:00:00Z"
_FRACTION: Final = re.compile(r"(\.\d{1,6})\d*")

_SIGNALS: Final = range(129, 193)
"""Exit codes of a main process that a signal ended, as a shell would have them."""

_NEVER_RAN: Final = ("created", "configured", "initialized")


def status_of(shown: Mapping[str, Any], began: float, ended: float) -> ContainerStatus:
    """Read one container as `GET /containers/{id}/json` shows it."""
    labels = shown.get("Config", {}).get("Labels") or {}
    state = shown.get("State", {})
    return ContainerStatus(
        name=str(shown.get("Name", "")).removeprefix("/"),
        owner=labels.get(OWNER, ""),
        state=state_of(state),
        exit=exit_of(state),
        record=record_of(labels),
        began=began,
        ended=ended,
    )


def listed(entry: Mapping[str, Any], began: float, ended: float) -> ContainerStatus:
    """Read one entry of `GET /containers/json`; it does not say how a container ended."""
    labels = entry.get("Labels") or {}
    names = entry.get("Names") or [""]
    state = _STATES.get(str(entry.get("State")))
    return ContainerStatus(
        name=str(names[0]).removeprefix("/"),
        owner=labels.get(OWNER, ""),
        presence=Presence.PRESENT if state else Presence.UNKNOWN,
        state=state,
        record=record_of(labels),
        began=began,
        ended=ended,
        reason="" if state else f"the engine calls its state {entry.get('State')!r}",
    )


def state_of(state: Mapping[str, Any]) -> ContainerState:
    """Read the state; one whose start failed was never more than created."""
    status = str(state.get("Status", ""))
    if status in _NEVER_RAN:
        return ContainerState.CREATED
    if status == "exited" and str(state.get("StartedAt", _NO_TIME)) == _NO_TIME:
        return ContainerState.CREATED
    return _STATES.get(status, ContainerState.EXITED)


def exit_of(state: Mapping[str, Any]) -> ExitStatus | None:
    """Read how a container ended; None unless it has."""
    if state_of(state) is not ContainerState.EXITED:
        return None
    code = state.get("ExitCode")
    return ExitStatus(
        code=code if isinstance(code, int) else None,
        signal=signal_of(code),
        oom=bool(state.get("OOMKilled", False)),
        finished_at=seconds_of(str(state.get("FinishedAt", ""))),
    )


def signal_of(code: object) -> int | None:
    """Tell the signal by the exit code; the engine says no more."""
    return code - 128 if isinstance(code, int) and code in _SIGNALS else None


def record_of(labels: Mapping[str, str]) -> Mapping[str, Any]:
    """Read the record; what is none is empty, and the core will say so."""
    try:
        record = json.loads(labels.get(RECORD, "{}"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def seconds_of(text: str) -> float | None:
    """Read a time of the engine's (RFC 3339, nanoseconds) as seconds since the epoch."""
    if not text or text.startswith("0001-"):
        return None
    try:
        return datetime.fromisoformat(_FRACTION.sub(r"\1", text)).timestamp()
    except ValueError:
        return None
