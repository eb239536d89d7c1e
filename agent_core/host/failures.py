"""What a plugin raised, in words, and as plain data between its worker and the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_core.contracts.errors import AgentError, PluginError, from_dict
from agent_core.contracts.plain import to_plain


class RemoteTraceback(Exception):
    """The traceback of another process, as the cause of the error that it explains."""

    def __init__(self, text: str) -> None:
        super().__init__("raised in the plugin's worker")
        self.text = text


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was raised in a worker.

    Attributes:
        said: Its class and its words.
        traceback: Its traceback as text, without the host's own frames.
        error: What `AgentError.to_dict` renders, where it is one of ours.
    """

    said: str
    traceback: str = ""
    error: Mapping[str, Any] | None = None


def said(error: BaseException) -> str:
    """Render what was raised in one line: its class and its words."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def failure(exc: BaseException, traceback: str) -> Failure:
    """Render what was raised, as the worker sends it."""
    return Failure(said(exc), traceback, _plain_error(exc) if isinstance(exc, AgentError) else None)


def rebuilt(failure: Failure, label: str, plugin: str, method: str) -> AgentError:
    """Make the error that the agent raises: the plugin's own if it is ours, else PluginError."""
    if failure.error is not None:
        error = from_dict(failure.error)
    else:
        what = f"{label} failed in {method}(): {failure.said}"
        error = PluginError(what, plugin=plugin, stage=method)
    if failure.traceback or failure.error is None:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _plain_error(exc: AgentError) -> dict[str, Any]:
    rendered = exc.to_dict()
    try:
        return dict(to_plain(rendered))
    except TypeError:  # a plugin may put anything into its details
        details = {str(key): repr(value) for key, value in exc.details.items()}
        return {**rendered, "message": str(exc), "hint": str(exc.hint or ""), "details": details}
