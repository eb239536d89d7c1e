"""The table of all RPC methods: the one source of the server, the client and the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from agent_core.contracts.errors import UnknownMethod
from agent_core.wire import content as c
from agent_core.wire import decisions as d
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import params as p
from agent_core.wire import reconciling as r
from agent_core.wire.roles import Role

R = TypeVar("R")
"""What a method answers."""


@dataclass(frozen=True, slots=True)
class Method(Generic[R]):
    """One method of the RPC.

    Attributes:
        name: Its name on the wire.
        summary: One line for the reference.
        role: The least role that may call it.
        params: The model of its parameters.
        result: The model of its result, of one row where it answers a list.
        many: Whether it answers a list of `result`.
        item: The model of the items that it streams; None when it answers once.
        goes_on: Whether the operation goes on when its caller no longer waits.
    """

    name: str
    summary: str
    role: Role
    params: type[m.Model]
    result: type[m.Model]
    many: bool = False
    item: type[m.Model] | None = None
    goes_on: bool = False

    def render(self, value: object) -> Any:
        """Turn a result of a service into plain data."""
        if self.many:
            return [row.model_dump() for row in cast("Sequence[m.Model]", value)]
        return cast("m.Model", value).model_dump()

    def read(self, data: object) -> R:
        """Turn plain data into a result; pydantic's ValidationError when it is none."""
        if self.many:
            rows = data if isinstance(data, list) else [data]
            return cast("R", [self.result.model_validate(row) for row in rows])
        return cast("R", self.result.model_validate(data))


def _one(
    name: str,
    role: Role,
    params: type[m.Model],
    result: type[R],
    summary: str,
    *,
    item: type[m.Model] | None = None,
    goes_on: bool = False,
) -> Method[R]:
    model = cast("type[m.Model]", result)
    return Method(name, summary, role, params, model, item=item, goes_on=goes_on)


def _list(
    name: str,
    role: Role,
    params: type[m.Model],
    row: type[R],
    summary: str,
    *,
    goes_on: bool = False,
) -> Method[list[R]]:
    model = cast("type[m.Model]", row)
    return Method(name, summary, role, params, model, many=True, goes_on=goes_on)


_NONE, _KERNEL = p.NoParams, p.KernelParams
_READ, _OPERATE, _ADMIN = Role.READ, Role.OPERATE, Role.ADMIN

PING = _one("ping", _READ, p.Ping, m.Pong, "Answer the same text at once.")
GET_STATUS = _one("get_status", _READ, _NONE, m.Status, "Describe the agent at a glance.")
LIST_PLUGINS = _list(
    "list_plugins", _READ, _NONE, m.PluginRow, "List every plugin found, with its state and why."
)
GET_PLUGIN = _one(
    "get_plugin", _READ, p.GetPlugin, m.PluginDetail, "Show one plugin and the trail of decisions."
)
RESET_PLUGIN = _one(
    "reset_plugin",
    _OPERATE,
    p.GetPlugin,
    m.PluginRow,
    "Lift the quarantine of a plugin, or its delay, and start its worker anew.",
    goes_on=True,
)
LIST_DEVICES = _list(
    "list_devices", _READ, _NONE, m.DeviceRow, "List the devices of all ready plugins."
)
LIST_SLOTS = _list(
    "list_slots", _READ, _NONE, m.SlotRow, "List the slots: total, used, and free for one more."
)
LIST_IMAGES = _list("list_images", _READ, _NONE, m.ImageRow, "List the images that can be started.")
PULL_IMAGE = _one(
    "pull_image",
    _OPERATE,
    c.ImageParams,
    m.Done,
    "Fetch an image and stream the progress; callers of one image share it, and it goes on.",
    item=c.PullProgress,
)
PUSH_IMAGE = _one(
    "push_image",
    _OPERATE,
    c.ImageParams,
    m.Done,
    "Send an image to its registry and stream the progress.",
    item=c.PullProgress,
)
PURGE_IMAGE = _one(
    "purge_image",
    _OPERATE,
    c.ImageParams,
    m.Done,
    "Remove an image from the node; succeeds when it is not there.",
    goes_on=True,
)
CREATE_KERNEL = _one(
    "create_kernel",
    _OPERATE,
    p.CreateKernel,
    m.Created,
    "Accept a create, answered once PREPARING is committed; idempotent by kernel id.",
    goes_on=True,
)
PLAN_KERNEL = _one(
    "plan_kernel",
    _READ,
    p.CreateKernel,
    d.Plan,
    "Decide what a create would get now, and why; takes nothing.",
)
EXPLAIN_KERNEL = _one(
    "explain_kernel",
    _READ,
    _KERNEL,
    d.Explanation,
    "Explain why a kernel has the devices that it has.",
)
LIST_KERNELS = _list(
    "list_kernels", _READ, p.ListKernels, m.KernelRow, "List kernels, oldest first."
)
LIST_PORTS = _list(
    "list_ports",
    _READ,
    p.NoParams,
    m.KernelPortRow,
    "List the ports that kernels publish, and where they are reached, those of the oldest first.",
)
GET_KERNEL_STATUS = _one(
    "get_kernel_status",
    _READ,
    _KERNEL,
    m.KernelDetail,
    "Show one kernel with its grants, holds, timings and present use.",
)
DESTROY_KERNEL = _one(
    "destroy_kernel",
    _OPERATE,
    p.DestroyKernel,
    m.KernelRow,
    "Accept a destroy, answered once TERMINATING is committed; succeeds for what is gone.",
    goes_on=True,
)
RESTART_KERNEL = _one(
    "restart_kernel",
    _OPERATE,
    p.RestartKernel,
    m.KernelRow,
    "Accept a restart, answered once RESTARTING is committed; slots and scratch are kept.",
    goes_on=True,
)
WAIT_KERNEL = _one(
    "wait_kernel",
    _READ,
    p.WaitKernel,
    m.KernelRow,
    "Answer once the kernel is in one of the states, or has ended.",
)
CREATE_SESSION = _one(
    "create_session",
    _OPERATE,
    p.CreateSession,
    m.SessionCreated,
    "Accept all kernels of a session, or none; idempotent by their ids.",
    goes_on=True,
)
LIST_SESSIONS = _list(
    "list_sessions",
    _READ,
    p.ListSessions,
    m.SessionRow,
    "List sessions with their kernels, oldest first.",
)
DESTROY_SESSION = _list(
    "destroy_session",
    _OPERATE,
    p.DestroySession,
    m.KernelRow,
    "Accept the destroy of all kernels of a session; succeeds for what is gone.",
    goes_on=True,
)
GET_LOGS = _one("get_logs", _READ, p.GetLogs, m.Done, "Stream a kernel's log.", item=m.LogItem)
WATCH_EVENTS = _one(
    "watch_events",
    _READ,
    p.WatchEvents,
    m.Done,
    "Stream retained events, and with `follow` those that happen.",
    item=m.EventItem,
)
EXECUTE_CODE = _one(
    "execute_code",
    _OPERATE,
    p.ExecuteCode,
    m.RunResult,
    "Run code in a kernel and stream its output; abandoning the stream interrupts the run.",
    item=m.OutputItem,
)
SEND_INPUT = _one(
    "send_input", _OPERATE, p.SendInput, m.Done, "Answer a run that waits for input.", goes_on=True
)
INTERRUPT_KERNEL = _one(
    "interrupt_kernel",
    _OPERATE,
    p.InterruptKernel,
    m.Done,
    "Interrupt a run, by default the current one.",
    goes_on=True,
)
COMPLETE_CODE = _one(
    "complete_code", _OPERATE, p.CompleteCode, m.Completions, "List completions at the cursor."
)
LIST_RUNS = _list(
    "list_runs",
    _READ,
    _KERNEL,
    c.RunRow,
    "List the last runs of a kernel that runs, whoever asked for them, the oldest first.",
)
LIST_SERVICES = _list(
    "list_services", _READ, _KERNEL, c.ServiceRow, "List the services of a kernel."
)
START_SERVICE = _one(
    "start_service",
    _OPERATE,
    c.StartService,
    c.ServiceRow,
    "Start a service of a kernel, answered once it runs; one that runs is left as it is.",
    goes_on=True,
)
SHUTDOWN_SERVICE = _one(
    "shutdown_service",
    _OPERATE,
    c.ServiceParams,
    m.Done,
    "End a service of a kernel; succeeds when it does not run.",
    goes_on=True,
)
UPLOAD_FILE = _one(
    "upload_file",
    _OPERATE,
    c.UploadFile,
    c.UploadState,
    "Take one piece of a tar stream that is unpacked in a kernel.",
)
DOWNLOAD_FILE = _one(
    "download_file",
    _OPERATE,
    c.PathParams,
    m.Done,
    "Stream a path of a kernel as a tar.",
    item=c.FileChunk,
)
LIST_FILES = _list("list_files", _READ, c.PathParams, c.FileRow, "List a directory of a kernel.")
COMMIT_KERNEL = _one(
    "commit_kernel",
    _OPERATE,
    c.CommitKernel,
    c.CommitState,
    "Make a kernel's container into an image, answered once that is done; it goes on.",
    goes_on=True,
)
GET_COMMIT_STATUS = _one(
    "get_commit_status", _READ, _KERNEL, c.CommitState, "Say what became of the last commit."
)
LIST_COMMANDS = _list(
    "list_commands", _READ, _NONE, c.CommandRow, "List the commands of the backend's own."
)
CALL_BACKEND = _one(
    "call_backend",
    _ADMIN,
    c.CallBackend,
    c.CommandResult,
    "Call a command of the backend's own.",
    goes_on=True,
)
LIST_LEAKS = _list(
    "list_leaks", _READ, _NONE, m.Leak, "Compare the ledger with the world in both directions."
)
SHOW_LEDGER = _one(
    "show_ledger", _READ, _NONE, led.LedgerView, "Say what is in the ledger, and how it was lost."
)
BACKUP_LEDGER = _one(
    "backup_ledger",
    _ADMIN,
    led.BackupLedger,
    led.BackupRow,
    "Copy the ledger as it is now, answered once the copy is on the disk.",
    goes_on=True,
)
FIX_LEAKS = _list(
    "fix_leaks",
    _OPERATE,
    _NONE,
    r.MendedLeak,
    "Give back what is provably this agent's and held by nobody; says of each what was done.",
    goes_on=True,
)
RECONCILE = _one(
    "reconcile",
    _OPERATE,
    _NONE,
    r.Reconciliation,
    "Compare the ledger with the world once, act on it, and say what was done and why.",
    goes_on=True,
)
PLAN_RECONCILE = _one(
    "plan_reconcile",
    _READ,
    _NONE,
    r.Reconciliation,
    "Say what `reconcile` would do now, and why; does nothing.",
)
GET_CONFIG = _one(
    "get_config", _ADMIN, _NONE, m.Configuration, "Return the configuration, secrets masked."
)
RELOAD_CONFIG = _one(
    "reload_config",
    _ADMIN,
    _NONE,
    m.Reloaded,
    "Read the configuration again and take over what can be while kernels run.",
    goes_on=True,
)

METHODS: Final[Mapping[str, Method[Any]]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Method)
}
"""Every method by its name, in the order of this module."""


def find(name: str) -> Method[Any]:
    """Look a method up.

    Raises:
        UnknownMethod: when there is none, with the nearest name as a suggestion.
    """
    method = METHODS.get(name)
    if method is None:
        raise UnknownMethod(
            f"there is no method {name!r}", hint=_suggestion(name), details={"method": name}
        )
    return method


def _suggestion(name: str) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(name, METHODS, n=1)
    return f"Did you mean {near[0]}?" if near else None
