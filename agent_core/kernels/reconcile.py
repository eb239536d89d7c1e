"""What to do with each kernel that the ledger knows, given what was seen of its container: pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent_core.contracts.backend import ContainerState, ContainerStatus, Presence
from agent_core.kernels.intents import Ending
from agent_core.kernels.states import KernelState, Reason
from agent_core.ledger import KernelRow


class Verdict(StrEnum):
    """What becomes of a kernel at the agent's start."""

    ADOPT = "adopt"
    """It runs, or nobody can tell: leave it running."""
    END = "end"
    """It is over, or was never whole: give everything back."""
    FINISH = "finish"
    """Its end had begun, or left something dirty: go on with that."""


@dataclass(frozen=True, slots=True)
class Action:
    """A verdict, and for an end the reason; `because` is the evidence in words."""

    verdict: Verdict
    because: str
    ending: Ending | None = None


def plan(row: KernelRow, sighting: ContainerStatus | None, *, rebooted: bool) -> Action:
    """Decide about one kernel.

    Args:
        row: The kernel's row.
        sighting: What was observed of its container; None when nothing could be observed.
        rebooted: Whether the node was booted since the row was written.
    """
    state = KernelState(row.state)
    if state in (KernelState.TERMINATING, KernelState.TERMINATED):
        return Action(Verdict.FINISH, f"its row says {state}")
    if state is KernelState.PREPARING:
        message = "the agent stopped while building it; everything is given back"
        return Action(
            Verdict.END, "its row says PREPARING", Ending(Reason.CREATE_INTERRUPTED, message)
        )
    if state is KernelState.RESTARTING:
        if rebooted:
            return Action(Verdict.END, "the node was rebooted", Ending(Reason.REBOOTED))
        return Action(Verdict.ADOPT, "its row says RESTARTING, and its restart goes on")
    if sighting is None or sighting.presence is Presence.UNKNOWN:
        return Action(Verdict.ADOPT, "nobody can tell whether its container runs")
    return _seen(sighting, rebooted=rebooted)


def _seen(sighting: ContainerStatus, *, rebooted: bool) -> Action:
    if sighting.presence is Presence.ABSENT:
        if rebooted:
            return Action(Verdict.END, "the node was rebooted", Ending(Reason.REBOOTED))
        return Action(Verdict.END, "its container is absent", Ending(Reason.CONTAINER_NOT_FOUND))
    if sighting.state is ContainerState.RUNNING:
        return Action(Verdict.ADOPT, "its container runs")
    if sighting.state is None:
        return Action(Verdict.ADOPT, "its container is there, and nobody can tell whether it runs")
    inferred = sighting.exit is not None and not sighting.exit.observed
    reason = Reason.REBOOTED if rebooted and inferred else Reason.SELF_TERMINATED
    return Action(Verdict.END, "its container has ended", Ending(reason, None, sighting.exit))
