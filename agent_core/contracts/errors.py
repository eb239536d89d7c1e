"""Every error of the project, each with a code for machines and a hint for people.

    AgentError
    ├── UsageError                     usage: the caller asked for something malformed
    │   ├── InvalidArgument            invalid-argument
    │   ├── InvalidConfig              invalid-config
    │   ├── InvalidSpec                invalid-spec
    │   ├── UnknownMethod              unknown-method
    │   ├── MalformedFrame             malformed-frame
    │   └── ProtocolMismatch           protocol-mismatch
    ├── NotFound                       not-found
    │   └── AmbiguousId                ambiguous-id
    ├── Conflict                       conflict
    │   ├── EditsConflict              edits-conflict
    │   ├── WrongState                 wrong-state
    │   └── StateDirectoryInUse        state-directory-in-use
    ├── ResourceRefused                resource-refused: the allocator said no
    │   ├── UnknownSlot                unknown-slot
    │   ├── InvalidAmount              invalid-amount
    │   ├── InsufficientResource       insufficient-resource
    │   ├── DevicesUnknown             devices-unknown (retryable)
    │   └── NoFreePort                 no-free-port (retryable)
    ├── PluginError                    plugin-failed
    │   ├── PluginDisabled             plugin-disabled
    │   ├── PluginImportFailed         plugin-import-failed
    │   ├── PluginContractBroken       plugin-contract-broken
    │   ├── PluginTimeout              plugin-timeout (retryable)
    │   └── PluginUnavailable          plugin-unavailable (retryable)
    ├── Unsupported                    unsupported
    ├── ImageNotFound                  image-not-found
    ├── KernelFailed                   kernel-failed
    ├── ServiceFailed                  service-failed
    ├── RunnerUnavailable              runner-unavailable (retryable)
    ├── CreateInterrupted              create-interrupted (retryable)
    ├── LedgerFailed                   ledger-failed
    ├── Reconciling                    reconciling (retryable)
    ├── Unauthorized                   unauthorized
    ├── Busy                           busy (retryable)
    ├── DeadlineExceeded               deadline-exceeded (retryable)
    ├── AgentUnreachable               agent-unreachable (retryable)
    └── InternalError                  internal-error

An error crosses every wire as `to_dict()` and becomes the same class again by its code in
`from_dict()`. Foreign errors are translated where they are met, always with `raise ... from`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar


class AgentError(Exception):
    """The root of all errors of the project.

    Args:
        message: What happened, where, and to whom, in one sentence.
        hint: What to do about it; falls back on the class's own hint.
        details: Plain data for machines, such as ``{"slot": "cuda.shares", "free": "0.5"}``.
    """

    code: ClassVar[str] = "agent-error"
    hint: str | None = None
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, hint: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint
        self.details: dict[str, Any] = dict(details or {})

    def to_dict(self) -> dict[str, Any]:
        """Render as plain data: code, message, hint, retryable and details."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "details": self.details,
        }


class UsageError(AgentError):
    """Raised when a caller's request is malformed; asking again unchanged will fail again."""

    code = "usage"


class InvalidArgument(UsageError):
    """Raised when an argument of a call fails validation; every fault is in ``details.faults``."""

    code = "invalid-argument"


class InvalidConfig(UsageError):
    """Raised when the configuration has faults; all of them, with file and line, are in details."""

    code = "invalid-config"
    hint = "Run `agentctl config check` to see every fault with its file and line."


class InvalidSpec(UsageError):
    """Raised when a kernel specification has faults; all of them are in ``details.faults``."""

    code = "invalid-spec"
    hint = "Mend every fault listed and ask again; nothing was created."


class UnknownMethod(UsageError):
    """Raised when an RPC names a method that this agent does not have."""

    code = "unknown-method"
    hint = "Compare the versions of client and agent with `agentctl status`."


class MalformedFrame(UsageError):
    """Raised when a frame is not what the RPC protocol describes."""

    code = "malformed-frame"
    hint = "Use the client of this agent's version; see the reference of the RPC protocol."


class ProtocolMismatch(UsageError):
    """Raised when client and agent share no version of the RPC protocol."""

    code = "protocol-mismatch"
    hint = "Upgrade the older side."


class NotFound(AgentError):
    """Raised when the named thing does not exist."""

    code = "not-found"
    hint = "List what exists with the matching `list` command."


class AmbiguousId(NotFound):
    """Raised when a shortened id matches several things; they are in ``details.matches``."""

    code = "ambiguous-id"
    hint = "Type more characters of the id."


class Conflict(AgentError):
    """Raised when what was asked contradicts what already exists."""

    code = "conflict"


class EditsConflict(Conflict):
    """Raised when two plugins want different values for one thing; both are named."""

    code = "edits-conflict"
    hint = "These two plugins cannot serve one kernel together; ask for the slots of only one."


class WrongState(Conflict):
    """Raised when a kernel's state does not admit what was asked."""

    code = "wrong-state"


class StateDirectoryInUse(Conflict):
    """Raised when another agent owns the state directory; its pid is in ``details.pid``."""

    code = "state-directory-in-use"
    hint = "Stop the other agent, or give this one another [agent] id or var-base-path."


class ResourceRefused(AgentError):
    """Raised when the allocator cannot grant exactly what was asked; nothing was taken."""

    code = "resource-refused"


class UnknownSlot(ResourceRefused):
    """Raised when no ready plugin offers the slot."""

    code = "unknown-slot"
    hint = "`agentctl slots` lists the slots of this node; `agentctl plugins list` what is loaded."


class InvalidAmount(ResourceRefused):
    """Raised when an amount is negative, not a number, or finer than the slot's quantum."""

    code = "invalid-amount"
    hint = "`agentctl slots` shows the unit and the quantum of each slot."


class InsufficientResource(ResourceRefused):
    """Raised when less is free than was asked; ``details`` says how much is."""

    code = "insufficient-resource"
    hint = "`agentctl slots` shows what is free; destroy a kernel or ask for less."


class DevicesUnknown(ResourceRefused):
    """Raised when a plugin has not reported its devices yet; existing claims stand."""

    code = "devices-unknown"
    hint = "The plugin has not reported since the agent started; try again shortly."
    retryable = True


class NoFreePort(ResourceRefused):
    """Raised when fewer ports are free than a kernel publishes; ``details`` says why.

    ``details.retry_after`` is how many seconds the cooldown of given-back ports goes on; None
    where a kernel has to end first.
    """

    code = "no-free-port"
    hint = "Try again after the cooldown, destroy a kernel, or widen [container] port-range."
    retryable = True


class PluginError(AgentError):
    """Raised when a plugin fails; carries the plugin and the stage that failed."""

    code = "plugin-failed"
    hint = "`agentctl plugins why NAME` shows the whole trail and the traceback."

    def __init__(
        self,
        message: str,
        *,
        plugin: str = "",
        stage: str = "",
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        merged = {"plugin": plugin, "stage": stage, **(details or {})}
        super().__init__(message, hint=hint, details=merged)
        self.plugin = merged["plugin"]
        self.stage = merged["stage"]


class PluginDisabled(PluginError):
    """Raised by a plugin's ``open`` when it has nothing to do here, such as "no /dev/kfd".

    This is not a failure: the plugin is shown as ``disabled`` with the message as its reason.
    """

    code = "plugin-disabled"


class PluginImportFailed(PluginError):
    """Raised when importing a plugin raises or exits."""

    code = "plugin-import-failed"


class PluginContractBroken(PluginError):
    """Raised when a plugin's hooks, class or replies are not what its contract says."""

    code = "plugin-contract-broken"
    hint = "Run the conformance kit of `agent_core.testing` against the plugin."


class PluginTimeout(PluginError):
    """Raised when a call into a plugin passed its deadline."""

    code = "plugin-timeout"
    retryable = True


class PluginUnavailable(PluginError):
    """Raised when a plugin's worker process died or cannot be started; it is started again."""

    code = "plugin-unavailable"
    hint = "It is started again by itself; `agentctl plugins why NAME` shows how it ended."
    retryable = True


class Unsupported(AgentError):
    """Raised when the backend or a plugin lacks the capability; nothing was taken."""

    code = "unsupported"
    hint = "`agentctl plugins show NAME` lists the capabilities."


class ImageNotFound(AgentError):
    """Raised when the backend has no such image and cannot get it."""

    code = "image-not-found"


class KernelFailed(AgentError):
    """Raised when a kernel ended, or failed to start, while somebody waited for it."""

    code = "kernel-failed"
    hint = "`agentctl kernels show` and `agentctl kernels logs` say why."


class ServiceFailed(AgentError):
    """Raised when a service of a kernel could not be started; `details` have what it said."""

    code = "service-failed"
    hint = "`agentctl kernels logs` has all that it said."


class RunnerUnavailable(AgentError):
    """Raised when a kernel's code runner is not connected or went away during a run."""

    code = "runner-unavailable"
    hint = "The runner reconnects by itself; `agentctl kernels show` tells when it has."
    retryable = True


class CreateInterrupted(AgentError):
    """Raised when a create was undone because the agent stopped in the middle of it."""

    code = "create-interrupted"
    hint = "Everything was given back; ask again with a new kernel id."
    retryable = True


class LedgerFailed(AgentError):
    """Raised when the ledger cannot be read or written."""

    code = "ledger-failed"
    hint = "Check the disk under the state directory; running kernels are not affected."


class Reconciling(AgentError):
    """Raised after the ledger was lost, until it is known what runs; nothing was taken."""

    code = "reconciling"
    hint = "Try again shortly; `agentctl status` says what is waited for."
    retryable = True


class Unauthorized(AgentError):
    """Raised when the caller's key or role does not admit the call."""

    code = "unauthorized"


class Busy(AgentError):
    """Raised when a bound on requests in flight is reached; ``details.retry_after`` is seconds."""

    code = "busy"
    hint = "Wait for retry_after seconds and ask again."
    retryable = True


class DeadlineExceeded(AgentError):
    """Raised when the caller's deadline passed; the operation itself goes on."""

    code = "deadline-exceeded"
    hint = "The operation goes on; watch it with `agentctl events --follow`."
    retryable = True


class AgentUnreachable(AgentError):
    """Raised by the client when no agent answers at the address."""

    code = "agent-unreachable"
    hint = "Start it with `agentctl serve`, or name another with --agent ADDRESS."
    retryable = True


class InternalError(AgentError):
    """Raised when something failed that should not; the agent's log has the traceback."""

    code = "internal-error"
    hint = "This is a defect; please report it with the agent's log."


def all_errors() -> Iterator[type[AgentError]]:
    """Yield every error class of this module, parents before children."""
    pending: list[type[AgentError]] = [AgentError]
    while pending:
        error = pending.pop(0)
        yield error
        pending.extend(c for c in error.__subclasses__() if c.__module__ == __name__)


def from_dict(data: Mapping[str, Any]) -> AgentError:
    """Rebuild an error that `AgentError.to_dict` rendered; an unknown code becomes AgentError."""
    by_code = {error.code: error for error in all_errors()}
    error_class = by_code.get(str(data.get("code")), AgentError)
    details = data.get("details")
    return error_class(
        str(data.get("message", "")),
        hint=data.get("hint"),
        details=details if isinstance(details, Mapping) else None,
    )


def bullet_list(faults: Sequence[str]) -> str:
    """Join several faults into one message, so that a caller mends them all at once."""
    if len(faults) == 1:
        return faults[0]
    return f"{len(faults)} faults:\n" + "\n".join(f"  - {fault}" for fault in faults)
