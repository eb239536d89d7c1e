"""The events that an agent tells, as clients may wait for them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event.

    Attributes:
        name: Its name, of what it is about and what has happened.
        meaning: What has happened.
        data: The keys of its data, each with its meaning; a key may be missing.
        durable: Whether it has an id and is kept in the ledger.
    """

    name: str
    meaning: str
    data: Mapping[str, str]
    durable: bool = True


_TRANSITION: Final[Mapping[str, str]] = {
    "from": "the state before; `null` for the first event",
    "to": "the state after",
    "incarnation": "how often the kernel has been created, from 1",
    "reason": "why it ends; see [reasons](kernel-states.md#reasons)",
    "message": "the reason in words, where there is more to say",
    "exit_code": "how its container ended, where that was seen",
}
_OUTCOME: Final[Mapping[str, str]] = {
    "incarnation": "that of the kernel with the startup command",
    "reason": "why that kernel ends; see [reasons](kernel-states.md#reasons)",
    "message": "the reason in words",
    "exit_code": "that of the startup command, or of the container where only that was seen",
}
_OF_PLUGIN: Final[Mapping[str, str]] = {
    "plugin": "its name",
    "kind": "its kind",
    "reason": "why it is not called",
}

KERNEL_PREPARING: Final = EventKind(
    "kernel.preparing", "a kernel was accepted and is being built", _TRANSITION
)
KERNEL_RUNNING: Final = EventKind("kernel.running", "its runner has answered", _TRANSITION)
KERNEL_RESTARTING: Final = EventKind(
    "kernel.restarting", "its container is being replaced under a new incarnation", _TRANSITION
)
KERNEL_TERMINATING: Final = EventKind(
    "kernel.terminating", "it is being given back; some process of it may still exist", _TRANSITION
)
KERNEL_TERMINATED: Final = EventKind(
    "kernel.terminated", "no process of it exists any more", _TRANSITION
)
SESSION_SUCCESS: Final = EventKind(
    "session.success",
    "the startup command of a batch session ended with exit code 0; told once",
    _OUTCOME,
)
SESSION_FAILURE: Final = EventKind(
    "session.failure",
    "a batch session ends without that its startup command ended well; told once",
    _OUTCOME,
)
PLUGIN_DOWN: Final = EventKind(
    "plugin.down",
    "a plugin's worker process has died, for the first time in two minutes; it is started again",
    _OF_PLUGIN,
)
PLUGIN_QUARANTINED: Final = EventKind(
    "plugin.quarantined",
    "a plugin hung or crashed again and again, and is not called any more; only a reset by the "
    "operator leads out",
    _OF_PLUGIN,
)
PLUGIN_READY: Final = EventKind(
    "plugin.ready",
    "a plugin that was down or quarantined is called again",
    {**_OF_PLUGIN, "reason": "why it was not called before"},
)
LEDGER_RECOVERED: Final = EventKind(
    "ledger.recovered",
    "the ledger was lost, and it is known again what runs",
    {
        "at": "when the loss was found, in seconds since the epoch",
        "why": "what was wrong with it",
        "source": "what it began again from: `itself`, `backup` or `nothing`",
        "backup": "the backup's path, where there was one",
        "kept": "where the files that were there are kept",
        "rebuilt": "how many kernels were found by their containers' records",
        "kernels": "the ids of the first hundred of them",
    },
)
KERNEL_STEP: Final = EventKind(
    "kernel.step",
    "a step of building or giving back has begun or is done",
    {
        "step": "the step",
        "phase": "`taking`, `progress`, `held`, `giving-back` or `given-back`",
        "seconds": "how long it took, once it is `held`",
        "layer": "of the progress of a pull: a layer of the image",
        "status": "what is done with the layer",
        "current": "how many bytes of it are there",
        "total": "how many bytes it has",
    },
    durable=False,
)

MODEL_SERVICE_STATUS: Final = EventKind(
    "model-service.status",
    "something of a model service has changed; `agentctl services list` shows how it is now",
    {
        "model": "its name, which is that of its service",
        "status": "`starting`, `healthy`, `unhealthy`, `failed` or `stopped`",
        "message": "why it is so, where there is more to say",
        "restarts": "how often it was started again since it was last well for a minute",
        "exit_code": "how its process ended last, where it has",
        "incarnation": "the incarnation of the kernel",
    },
    durable=False,
)

EVENTS: Final[Mapping[str, EventKind]] = {
    kind.name: kind
    for kind in (
        KERNEL_PREPARING,
        KERNEL_RUNNING,
        KERNEL_RESTARTING,
        KERNEL_TERMINATING,
        KERNEL_TERMINATED,
        SESSION_SUCCESS,
        SESSION_FAILURE,
        PLUGIN_DOWN,
        PLUGIN_QUARANTINED,
        PLUGIN_READY,
        LEDGER_RECOVERED,
        KERNEL_STEP,
        MODEL_SERVICE_STATUS,
    )
}
"""Every kind of event by name."""
