"""The cells of the table of edits: what a container has of one edit, and how that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent_core.contracts.backend import Presence
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.errors import Unsupported
from agent_core.contracts.info import EditOutcome


@dataclass(frozen=True, slots=True)
class Case:
    """One edit: what a container prints that has it, and whether this host can tell."""

    value: Callable[[str], Any]
    script: str = "true"
    prints: str = ""
    untellable: str = ""


async def printed(bench, script: str, edits: ContainerEdits) -> str | None:
    """Run a script in a container with these edits; None when they were refused."""
    env = MergedEdits.of("acme", edits).environment(bench.setting.env)
    spec = bench.spec(("/bin/sh", "-c", script), edits=edits, env=env)
    try:
        await bench.backend.create(spec)
    except Unsupported:
        assert (await bench.inspect(spec)).presence is Presence.ABSENT
        return None
    await bench.backend.start(spec.name)
    await bench.ended(spec)
    text = await bench.text(spec)
    await bench.backend.remove(spec.name)
    return text.strip()


def outcome_of(without: str | None, edited: str | None) -> EditOutcome:
    """Tell what became of an edit by what containers print without it and with it."""
    if edited is None:
        return EditOutcome.REFUSED
    return EditOutcome.WITHOUT_EFFECT if edited == without else EditOutcome.APPLIED
