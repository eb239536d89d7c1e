"""What to do with things that exist and that the ledger does not know: pure.

A thing is removed only when all of this holds: it was seen for certain, it is proven to be this
agent's, its kernel has not got an owner or a future, no container uses it, it has been seen for
longer than the grace, and the operator wants strangers removed. Whatever else is reported or left
alone, and a thing of another agent is not even named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent_core.contracts.backend import Presence

Key = tuple[str, str]
"""What names a thing, and a hold: its kind and its key."""

CONTAINER: Final = "container"
DEVICE: Final = "device"
CLAIM: Final = "claim"


class Policy(StrEnum):
    """What is done with a stranger that is provably ours and older than the grace."""

    REPORT = "report"
    REMOVE = "remove"


class StrangerVerdict(StrEnum):
    """What becomes of a stranger."""

    WAIT = "wait"
    """It is fresh: something may be under way."""
    LEAVE = "leave"
    """It is not proven to be held by nobody: it is left alone."""
    REPORT = "report"
    """It is held by nobody: whoever operates the node is told."""
    REMOVE = "remove"
    """It is held by nobody: it is given back."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that exists in the world.

    Attributes:
        kind: The kind of the hold that it should have.
        key: The key of that hold.
        kernel_id: Its kernel, as far as the thing itself tells.
        owner: The agent that it is proven to belong to; None where nothing proves it.
        presence: Whether it was seen for certain.
        state: What it does, for people.
        detail: Where it is, for people.
    """

    kind: str
    key: str
    kernel_id: str | None = None
    owner: str | None = None
    presence: Presence = Presence.PRESENT
    state: str = "present"
    detail: str = ""

    @property
    def name(self) -> Key:
        """What names it."""
        return self.kind, self.key


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger knows of things and of their kernels.

    Attributes:
        held: The things that some kernel holds.
        living: The kernels that have not ended.
        ended: The kernels that have.
    """

    held: frozenset[Key] = frozenset()
    living: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StrangerAction:
    """A verdict on one stranger; `because` is the evidence in words."""

    thing: Thing
    verdict: StrangerVerdict
    because: str


@dataclass(frozen=True, slots=True)
class Rules:
    """How strangers are dealt with.

    Attributes:
        agent_id: Who we are.
        policy: What is done in the end.
        grace: Seconds that a thing must have been seen for.
    """

    agent_id: str
    policy: Policy = Policy.REPORT
    grace: float = 300.0


class FirstSeen:
    """Remembers since when each stranger has been seen, by the boot-time clock.

    It is kept in memory alone: after the agent's restart every grace begins anew, which is the
    safe side.
    """

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}

    def look(self, names: Iterable[Key], now: float) -> Mapping[Key, float]:
        """Take what is seen now, forget what is not, and return when each was seen first."""
        self._at = {name: self._at.get(name, now) for name in names}
        return self._at


def plan_strangers(
    things: Iterable[Thing],
    recorded: Recorded,
    first_seen: Mapping[Key, float],
    now: float,
    rules: Rules,
) -> list[StrangerAction]:
    """Decide about everything that exists and is not held.

    Args:
        things: All that was seen; the containers among it have to be complete.
        recorded: What the ledger says of them.
        first_seen: Since when each has been seen, in boot-time seconds.
        now: Boot-time seconds.
        rules: How strangers are dealt with.
    """
    things = [t for t in things if t.presence is not Presence.ABSENT]
    users = _Users(things)
    return [
        StrangerAction(thing, *_verdict(thing, recorded, users, first_seen, now, rules))
        for thing in things
        if thing.name not in recorded.held and thing.owner in (None, rules.agent_id)
    ]


class _Users:
    """What is, or may be, there and uses other things.

    A container uses what its kernel has, and a device that is prepared the claim that it is of.
    """

    def __init__(self, things: Sequence[Thing]) -> None:
        containers = [t for t in things if t.kind == CONTAINER]
        self._prepared = {t.key for t in things if t.kind == DEVICE}
        self._of_kernel = {t.kernel_id: t.key for t in containers if t.kernel_id is not None}
        self._nameless = next((t.key for t in containers if t.kernel_id is None), None)

    def of(self, thing: Thing) -> str | None:
        """Name what uses, or may use, a thing."""
        if thing.kind == CONTAINER:
            return None
        if thing.kind == CLAIM and thing.key in self._prepared:
            return f"its device {thing.key}"
        container = self._nameless or self._of_kernel.get(thing.kernel_id or "")
        return f"container {container}" if container else None


def _verdict(
    thing: Thing,
    recorded: Recorded,
    users: _Users,
    first_seen: Mapping[Key, float],
    now: float,
    rules: Rules,
) -> tuple[StrangerVerdict, str]:
    why_not = _doubt(thing, recorded, users)
    if why_not is not None:
        return StrangerVerdict.LEAVE, why_not
    age = now - first_seen.get(thing.name, now)
    if age < rules.grace:
        return StrangerVerdict.WAIT, f"it has been seen for {age:.0f} s of {rules.grace:g} s"
    because = f"nothing has held it for {age:.0f} s"
    verdict = StrangerVerdict.REMOVE if rules.policy is Policy.REMOVE else StrangerVerdict.REPORT
    return verdict, because


def _doubt(thing: Thing, recorded: Recorded, users: _Users) -> str | None:
    """Say what speaks against its being ours and held by nobody."""
    if thing.presence is not Presence.PRESENT:
        return "nobody can tell whether it is there"
    # Whoever prepared a device left nothing but the claim's id, which names the kernel.
    proven = thing.kernel_id in recorded.ended if thing.kind == DEVICE else thing.owner is not None
    if not proven:
        return "nothing proves that it is this agent's"
    if thing.kernel_id in recorded.living:
        return f"its kernel {thing.kernel_id} has not ended"
    user = users.of(thing)
    return f"{user} is there and may use it" if user is not None else None
