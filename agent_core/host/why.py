"""The answer to "why was my plugin not loaded?": the trail, then the traceback, then the fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent_core.host.states import PluginState


def explain(detail: Mapping[str, Any]) -> str:
    """Render one plugin's record, given as the fields of PluginDetail, as text for people."""
    return "\n".join(_lines(detail)) + "\n"


def _lines(detail: Mapping[str, Any]) -> Iterator[str]:
    state = PluginState(detail["state"])
    origin = f"{detail['distribution']} {detail['version']}, contract {detail['contract']}"
    yield f"{detail['kind']} {detail['name']} ({origin})"
    yield f"is {state}: {state.meaning}"
    if detail["reason"]:
        yield f"because {detail['reason']}"
    yield ""
    yield "How it came to this"
    yield from _trail(detail["trail"])
    if detail["traceback"]:
        yield ""
        yield "What was raised"
        yield from (f"  {line}" for line in detail["traceback"].rstrip().splitlines())
    if detail["hint"]:
        yield ""
        yield "What to do"
        yield f"  {detail['hint']}"


def _trail(steps: list[Mapping[str, Any]]) -> Iterator[str]:
    width = max((len(step["step"]) for step in steps), default=0)
    outcomes = max((len(step["outcome"]) for step in steps), default=0)
    for number, step in enumerate(steps, 1):
        columns = f"{step['step']:<{width}}  {step['outcome']:<{outcomes}}  {step['detail']}"
        yield f"  {number:>2}. {columns}".rstrip()
