"""Named places where a test can kill, fail or delay the agent; each costs one comparison otherwise.

Arm them in the environment before the start: ``AGENT_FAILPOINTS="NAME=ACTION[@N];..."``, where the
action is ``kill`` (SIGKILL to the agent itself), ``raise`` or ``delay:SECONDS`` and N is the hit
that triggers it, 1 by default. ``AGENT_FAILPOINTS_TRACE=FILE`` appends the name of each point that
is hit, so that a test can walk all of them.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from agent_core.contracts.errors import InternalError, InvalidConfig


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One declared place: a unique name, and what has and has not happened there."""

    name: str
    meaning: str


REGISTRY: dict[str, Failpoint] = {}
"""Every declared failpoint by name."""


def declare(name: str, meaning: str) -> Failpoint:
    """Declare a failpoint once, at import.

    Raises:
        ValueError: when the name is taken.
    """
    if name in REGISTRY:
        raise ValueError(f"failpoint {name!r} is declared twice")
    REGISTRY[name] = Failpoint(name, meaning)
    return REGISTRY[name]


def declare_commit(label: str, meaning: str) -> tuple[Failpoint, Failpoint]:
    """Declare the two sides of a ledger commit: just before it and just after it."""
    return (
        declare(f"commit.{label}.before", f"{meaning}: decided, not yet durable"),
        declare(f"commit.{label}.after", f"{meaning}: durable, nobody knows yet"),
    )


class Effect:
    """One kind of effect outside the agent, with a failpoint on either side of it.

    Declare each as a constant of the module that has it, and do the work inside of ``with``: the
    second point is passed only when the work is done.
    """

    __slots__ = ("after", "before")

    def __init__(self, label: str, meaning: str) -> None:
        self.before = declare(f"effect.{label}.before", f"{meaning}: recorded, not yet done")
        self.after = declare(f"effect.{label}.after", f"{meaning}: done, not yet recorded")

    def __enter__(self) -> None:
        hit(self.before)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            hit(self.after)


@dataclass(frozen=True, slots=True)
class _Armed:
    action: str
    at_hit: int
    seconds: float = 0.0


class _Arming:
    """What the environment asks for, and how often each point was hit."""

    def __init__(self, text: str, trace: str | None) -> None:
        self.points = dict(_parse(item) for item in text.split(";") if item.strip())
        self.trace = Path(trace) if trace else None
        self.hits: Counter[str] = Counter()

    def hit(self, name: str) -> None:
        self.hits[name] += 1
        if self.trace is not None:
            with self.trace.open("a") as file:
                file.write(f"{name}\n")
        armed = self.points.get(name)
        if armed is not None and self.hits[name] == armed.at_hit:
            _act(name, armed)


def _parse(item: str) -> tuple[str, _Armed]:
    name, separator, rest = item.strip().partition("=")
    action, _, count = rest.partition("@")
    action, _, seconds = action.partition(":")
    try:
        armed = _Armed(action, int(count or 1), float(seconds or 0))
    except ValueError as exc:
        raise _malformed(item) from exc
    if not separator or action not in {"kill", "raise", "delay"}:
        raise _malformed(item)
    return name, armed


def _malformed(item: str) -> InvalidConfig:
    return InvalidConfig(
        f"AGENT_FAILPOINTS: {item!r} is not NAME=kill|raise|delay:SECONDS[@N]",
        hint="See the reference of failpoints for the names.",
    )


def _act(name: str, armed: _Armed) -> None:
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "delay":
        time.sleep(armed.seconds)
    else:
        raise InternalError(f"failpoint {name} was armed to raise")


def _from_environment() -> _Arming | None:
    text = os.environ.get("AGENT_FAILPOINTS", "")
    trace = os.environ.get("AGENT_FAILPOINTS_TRACE")
    return _Arming(text, trace) if text or trace else None


_arming = _from_environment()


def hit(point: Failpoint) -> None:
    """Pass a failpoint: nothing happens unless it is armed."""
    if _arming is not None:
        _arming.hit(point.name)
