"""The typed models of the RPC: what its methods take, one model for each that takes anything.

Parameters are closed: what a method does not know is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from agent_core.wire.models import Model

KernelId = Annotated[str, Field(min_length=1, max_length=64)]
RunId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class Params(Model):
    """The root of all parameters: closed to those that a method does not have."""

    model_config = ConfigDict(extra="forbid")


class NoParams(Params):
    """A method without parameters."""


class Ping(Params):
    """Parameters of ping."""

    text: Annotated[str, Field(max_length=4096)] = ""


class GetPlugin(Params):
    """Parameters of get_plugin: an entry-point name, or kind:name."""

    name: Annotated[str, Field(min_length=1, max_length=256)]


class CreateKernel(Params):
    """Parameters of create_kernel; the spec is checked as a whole by the kernel room."""

    spec: dict[str, Any]


class CreateSession(Params):
    """Parameters of create_session: the specs of its kernels, each with an optional `role`.

    The session decides the place, the session id and, where a spec has none, the id of a kernel.
    """

    session_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")] | None = None
    kernels: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=256)]


class DestroySession(Params):
    """Parameters of destroy_session."""

    session_id: KernelId
    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")] = "user-requested"


class ListSessions(Params):
    """Parameters of list_sessions; `all` includes kernels that have ended."""

    all: bool = False


class ListKernels(Params):
    """Parameters of list_kernels; `all` includes those that have ended."""

    all: bool = False


class KernelParams(Params):
    """Parameters of a method about one kernel; the id may be a unique prefix."""

    kernel_id: KernelId


class DestroyKernel(KernelParams):
    """Parameters of destroy_kernel."""

    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")] = "user-requested"


class RestartKernel(KernelParams):
    """Parameters of restart_kernel.

    `incarnation` is the one to replace: where a later one is there already, nothing is done.
    """

    incarnation: Annotated[int, Field(ge=1)] | None = None


class WaitKernel(KernelParams):
    """Parameters of wait_kernel: answered once the kernel is in one of the states, or ended."""

    states: Annotated[list[str], Field(min_length=1, max_length=8)]


class GetLogs(KernelParams):
    """Parameters of get_logs."""

    follow: bool = False


class WatchEvents(Params):
    """Parameters of watch_events.

    `since` is the id of the last event seen; without it the retained events come first, and with
    `follow` the stream goes on with what happens. `progress` adds what is not durable.
    """

    kernel_id: KernelId | None = None
    since: str | None = None
    follow: bool = False
    progress: bool = False


class ExecuteCode(KernelParams):
    """Parameters of execute_code; `timeout` is seconds of running, None for none."""

    run_id: RunId
    mode: Literal["query", "batch"] = "query"
    code: Annotated[str, Field(max_length=512 << 10)]
    options: dict[str, str] = Field(default_factory=dict)
    timeout: Annotated[float, Field(gt=0)] | None = None


class SendInput(KernelParams):
    """Parameters of send_input, the answer to waiting-input."""

    run_id: RunId
    text: Annotated[str, Field(max_length=64 << 10)]


class InterruptKernel(KernelParams):
    """Parameters of interrupt_kernel; without a run the current one is interrupted."""

    run_id: RunId | None = None


class CompleteCode(KernelParams):
    """Parameters of complete_code: the text and the cursor's position in it."""

    code: Annotated[str, Field(max_length=64 << 10)]
    cursor: Annotated[int, Field(ge=0)]
