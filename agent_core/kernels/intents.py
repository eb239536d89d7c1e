"""What others ask of a kernel's owner; only the owner acts on it."""

from __future__ import annotations

from dataclasses import dataclass

from agent_core.contracts.backend import ExitStatus


@dataclass(frozen=True, slots=True)
class Ending:
    """The kernel is to end, or has: the first reason wins.

    Attributes:
        reason: Why, as the terminal event will say.
        message: Words for people.
        exit: How its container ended, where that is known.
    """

    reason: str
    message: str | None = None
    exit: ExitStatus | None = None
