"""The states of a kernel, the changes between them, and the reasons for an end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from agent_core.contracts.errors import InternalError
from agent_core.wire import events


class KernelState(StrEnum):
    """Where a kernel is in its life."""

    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


MEANINGS: Final[Mapping[KernelState, str]] = {
    KernelState.PREPARING: "accepted and being built, step by step",
    KernelState.RUNNING: "its container runs and its runner has answered",
    KernelState.RESTARTING: "its container is being replaced under a new incarnation",
    KernelState.TERMINATING: "being given back; some process of it may still exist",
    KernelState.TERMINATED: "no process of it exists any more",
}
"""What each state means to an operator."""

TRANSITIONS: Final[Mapping[KernelState | None, frozenset[KernelState]]] = {
    None: frozenset({KernelState.PREPARING}),
    KernelState.PREPARING: frozenset({KernelState.RUNNING, KernelState.TERMINATING}),
    KernelState.RUNNING: frozenset({KernelState.RESTARTING, KernelState.TERMINATING}),
    KernelState.RESTARTING: frozenset({KernelState.RUNNING, KernelState.TERMINATING}),
    KernelState.TERMINATING: frozenset({KernelState.TERMINATED}),
    KernelState.TERMINATED: frozenset(),
}
"""The changes that are possible; each is one ledger transaction and one event."""

EVENTS: Final[Mapping[KernelState, str]] = {
    state: events.EVENTS[f"kernel.{state.value.lower()}"].name for state in KernelState
}
"""The name of the event that tells each state."""

OUTCOMES: Final[Mapping[bool, str]] = {
    True: events.SESSION_SUCCESS.name,
    False: events.SESSION_FAILURE.name,
}
"""The name of the event that tells the end of a batch, by whether its command ended well."""


class Reason(StrEnum):
    """Why a kernel ended."""

    USER_REQUESTED = "user-requested"
    SELF_TERMINATED = "self-terminated"
    OOM = "oom"
    TASK_FINISHED = "task-finished"
    TASK_FAILED = "task-failed"
    TASK_TIMEOUT = "task-timeout"
    TASK_CANCELLED = "task-cancelled"
    SESSION_ENDED = "session-ended"
    FAILED_TO_CREATE = "failed-to-create"
    FAILED_TO_START = "failed-to-start"
    FAILED_TO_RESTART = "failed-to-restart"
    SESSION_FAILED = "session-failed"
    CREATE_INTERRUPTED = "create-interrupted"
    CONTAINER_NOT_FOUND = "container-not-found"
    REBOOTED = "ended-by-reboot"


REASON_MEANINGS: Final[Mapping[Reason, str]] = {
    Reason.USER_REQUESTED: "somebody asked for it",
    Reason.SELF_TERMINATED: "its main process ended by itself or was killed from inside",
    Reason.OOM: "it used more memory than it was given",
    Reason.TASK_FINISHED: "its startup command ended well: exit code 0",
    Reason.TASK_FAILED: "its startup command ended with another exit code, or died",
    Reason.TASK_TIMEOUT: "its startup command ran longer than it may",
    Reason.TASK_CANCELLED: "its startup command was interrupted",
    Reason.SESSION_ENDED: "the kernel with its session's startup command has ended",
    Reason.FAILED_TO_CREATE: "a step before the container's start failed",
    Reason.FAILED_TO_START: "the container or its runner did not start",
    Reason.FAILED_TO_RESTART: "a step of its restart failed",
    Reason.SESSION_FAILED: "another kernel of its session could not be created",
    Reason.CREATE_INTERRUPTED: "the agent stopped while building it, and it was undone",
    Reason.CONTAINER_NOT_FOUND: "its container was gone when the agent looked",
    Reason.REBOOTED: "the node was rebooted",
}
"""What each reason means to an operator; a destroy may give others of its own."""


NEVER_WHOLE: Final = frozenset(
    {Reason.FAILED_TO_CREATE, Reason.FAILED_TO_START, Reason.CREATE_INTERRUPTED}
)
"""The reasons of a kernel that never ran; its session never was whole, and ends with it."""


def check_transition(kernel_id: str, old: KernelState | None, new: KernelState) -> None:
    """Refuse a change that the table does not have.

    Raises:
        InternalError: when the change is impossible; nothing was written.
    """
    if new not in TRANSITIONS[old]:
        raise InternalError(f"kernel {kernel_id} cannot go from {old} to {new}")
