"""What to do with each kernel that the ledger knows, given what was seen of its container: pure.

    plan(what the ledger says, what was seen) -> an action for each kernel

An action says what is to be done and why, and carries the version of the row that it was decided
for: whoever acts drops it when the row has moved on. The same plan serves the agent's start, when
no kernel has an owner yet, and every look later on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent_core.contracts.backend import ContainerState, ExitStatus, Presence
from agent_core.kernels.intents import Ending
from agent_core.kernels.states import KernelState, Reason
from agent_core.ledger import KernelRow


class Verdict(StrEnum):
    """What becomes of a kernel."""

    ADOPT = "adopt"
    """The world is as the ledger says: it runs on."""
    LEAVE = "leave"
    """Nobody can tell: it is left as it is, and nothing of it is free."""
    WAIT = "wait"
    """What was seen says nothing yet: something is under way, or was when it was seen."""
    END = "end"
    """It is over, or was never whole: give everything back."""
    FINISH = "finish"
    """Its end had begun, or left something dirty: go on with that."""


@dataclass(frozen=True, slots=True)
class Known:
    """One kernel as the ledger has it.

    Attributes:
        row: Its row.
        since: Monotonic seconds of the row's last change; 0 where it was an earlier agent's.
        busy: Whether its owner is building, restarting or ending it.
    """

    row: KernelRow
    since: float = 0.0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was observed of a kernel's container.

    Attributes:
        presence: Whether it is there.
        began: Monotonic seconds when the observation began.
        ended: Monotonic seconds when the observation ended.
        state: What it does; None unless that was seen.
        exit: How it ended; None unless that was seen.
        confirmed: Whether it was looked up by itself; that a list lacks it proves nothing.
    """

    presence: Presence
    began: float
    ended: float
    state: ContainerState | None = None
    exit: ExitStatus | None = None
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """A verdict on one kernel.

    Attributes:
        kernel_id: The kernel.
        version: The version of its row that this was decided for.
        verdict: What is to be done.
        because: The evidence in words.
        ending: The end to post; None unless the verdict is END.
    """

    kernel_id: str
    version: int
    verdict: Verdict
    because: str
    ending: Ending | None = None


def plan(
    kernels: Iterable[Known], sightings: Mapping[str, Sighting], *, rebooted: bool = False
) -> list[Action]:
    """Decide about each kernel by itself.

    Args:
        kernels: What the ledger says.
        sightings: What was seen of their containers, by kernel id; missing where nobody could look.
        rebooted: Whether the node was booted since the rows were written.
    """
    return [
        _decide(known, sightings.get(known.row.kernel_id), rebooted=rebooted) for known in kernels
    ]


def _decide(known: Known, sighting: Sighting | None, *, rebooted: bool) -> Action:
    row = known.row
    verdict, because, ending = _verdict(known, sighting, rebooted=rebooted)
    return Action(row.kernel_id, row.version, verdict, because, ending)


_Decided = tuple[Verdict, str, Ending | None]


def _verdict(known: Known, sighting: Sighting | None, *, rebooted: bool) -> _Decided:
    state = KernelState(known.row.state)
    if known.busy:
        return Verdict.WAIT, f"its owner is at work: it is {state}", None
    if state in (KernelState.TERMINATING, KernelState.TERMINATED):
        return Verdict.FINISH, f"its row says {state}", None
    if state is KernelState.PREPARING:
        message = "the agent stopped while building it; everything is given back"
        ending = Ending(Reason.CREATE_INTERRUPTED, message)
        return Verdict.END, "its row says PREPARING", ending
    if state is KernelState.RESTARTING:
        if rebooted:
            return Verdict.END, "the node was rebooted", Ending(Reason.REBOOTED)
        return Verdict.ADOPT, "its row says RESTARTING: its owner goes on with that", None
    if sighting is None or sighting.presence is Presence.UNKNOWN:
        return Verdict.LEAVE, "nobody can tell whether its container runs", None
    if sighting.began <= known.since:
        return Verdict.WAIT, "it was looked at before its last change", None
    return _seen(sighting, rebooted=rebooted)


def _seen(sighting: Sighting, *, rebooted: bool) -> _Decided:
    if sighting.presence is Presence.ABSENT:
        if not sighting.confirmed:
            return Verdict.LEAVE, "a list lacks its container, and no look confirms that", None
        if rebooted:
            return Verdict.END, "the node was rebooted", Ending(Reason.REBOOTED)
        return Verdict.END, "its container is absent", Ending(Reason.CONTAINER_NOT_FOUND)
    if sighting.state is ContainerState.RUNNING:
        return Verdict.ADOPT, "its container runs", None
    if sighting.state is None:
        because = "its container is there, and nobody can tell whether it runs"
        return Verdict.LEAVE, because, None
    inferred = sighting.exit is not None and not sighting.exit.observed
    reason = Reason.REBOOTED if rebooted and inferred else Reason.SELF_TERMINATED
    return Verdict.END, "its container has ended", Ending(reason, None, sighting.exit)
