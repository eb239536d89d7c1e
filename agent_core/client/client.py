"""The typed client: one method for each of the agent's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from secrets import token_hex
from typing import Any, Literal, cast

from agent_core.client.caller import Caller, Timeout
from agent_core.client.pieces import Pieces
from agent_core.wire import content as c
from agent_core.wire import decisions as d
from agent_core.wire import ledger as led
from agent_core.wire import methods
from agent_core.wire import models as m
from agent_core.wire import reconciling as r


class AgentClient(Caller):
    """Talks to one agent.

        async with AgentClient("/run/agent-core/agent.sock") as agent:
            print(await agent.get_status())

    Every method raises what `Caller.call` raises. A kernel's id may be a unique prefix of it.
    `timeout` bounds the waiting; whether the operation goes on then, its method says.
    """

    async def ping(self, text: str = "", *, timeout: Timeout = ...) -> str:
        """Return the same text."""
        return (await self.call(methods.PING, {"text": text}, timeout=timeout)).text

    async def get_status(self) -> m.Status:
        """Describe the agent at a glance."""
        return await self.call(methods.GET_STATUS)

    async def list_plugins(self) -> list[m.PluginRow]:
        """List every plugin that the agent found, with its state."""
        return await self.call(methods.LIST_PLUGINS)

    async def get_plugin(self, name: str) -> m.PluginDetail:
        """Show one plugin, by its name or kind:name."""
        return await self.call(methods.GET_PLUGIN, {"name": name})

    async def reset_plugin(self, name: str) -> m.PluginRow:
        """Lift a plugin's quarantine and start its worker anew; answers once that was tried."""
        return await self.call(methods.RESET_PLUGIN, {"name": name})

    async def list_devices(self) -> list[m.DeviceRow]:
        """List the devices of all ready plugins."""
        return await self.call(methods.LIST_DEVICES)

    async def list_slots(self) -> list[m.SlotRow]:
        """List the node's slots."""
        return await self.call(methods.LIST_SLOTS)

    async def list_images(self) -> list[m.ImageRow]:
        """List the images that can be started."""
        return await self.call(methods.LIST_IMAGES)

    async def pull_image(self, name: str) -> AsyncGenerator[c.PullProgress, None]:
        """Fetch an image, yielding the progress; the pull goes on when this is closed early."""
        async with await self.stream(methods.PULL_IMAGE, {"name": name}) as items:
            async for item in items:
                yield cast("c.PullProgress", item)

    async def push_image(self, name: str) -> AsyncGenerator[c.PullProgress, None]:
        """Send an image to its registry, yielding the progress."""
        async with await self.stream(methods.PUSH_IMAGE, {"name": name}) as items:
            async for item in items:
                yield cast("c.PullProgress", item)

    async def purge_image(self, name: str, *, timeout: Timeout = ...) -> None:
        """Remove an image from the node; succeeds when it is not there."""
        await self.call(methods.PURGE_IMAGE, {"name": name}, timeout=timeout)

    async def create_kernel(self, spec: Mapping[str, Any], *, timeout: Timeout = ...) -> m.Created:
        """Create a kernel; returns once PREPARING is committed. Safe to repeat by kernel id."""
        return await self.call(methods.CREATE_KERNEL, {"spec": dict(spec)}, timeout=timeout)

    async def plan_kernel(self, spec: Mapping[str, Any]) -> d.Plan:
        """Decide what a create would get now, and why; takes nothing."""
        return await self.call(methods.PLAN_KERNEL, {"spec": dict(spec)})

    async def explain_kernel(self, kernel_id: str) -> d.Explanation:
        """Explain why a kernel has the devices that it has."""
        return await self.call(methods.EXPLAIN_KERNEL, {"kernel_id": kernel_id})

    async def list_kernels(self, *, include_ended: bool = False) -> list[m.KernelRow]:
        """List kernels, oldest first."""
        return await self.call(methods.LIST_KERNELS, {"all": include_ended})

    async def list_ports(self) -> list[m.KernelPortRow]:
        """List the ports that kernels publish, and where they are reached."""
        return await self.call(methods.LIST_PORTS, {})

    async def get_kernel_status(self, kernel_id: str) -> m.KernelDetail:
        """Show one kernel."""
        return await self.call(methods.GET_KERNEL_STATUS, {"kernel_id": kernel_id})

    async def destroy_kernel(
        self, kernel_id: str, reason: str = "user-requested", *, timeout: Timeout = ...
    ) -> m.KernelRow:
        """Destroy a kernel; returns once TERMINATING is committed. Safe to repeat."""
        params = {"kernel_id": kernel_id, "reason": reason}
        return await self.call(methods.DESTROY_KERNEL, params, timeout=timeout)

    async def restart_kernel(
        self, kernel_id: str, incarnation: int | None = None, *, timeout: Timeout = ...
    ) -> m.KernelRow:
        """Restart a kernel; returns once RESTARTING is committed.

        Safe to repeat with the incarnation to replace: a later one is left as it is.
        """
        params = {"kernel_id": kernel_id, "incarnation": incarnation}
        return await self.call(methods.RESTART_KERNEL, params, timeout=timeout)

    async def wait_kernel(
        self, kernel_id: str, states: Sequence[str], *, timeout: float | None = None
    ) -> m.KernelRow:
        """Wait until the kernel is in one of the states, or has ended."""
        params = {"kernel_id": kernel_id, "states": list(states)}
        return await self.call(methods.WAIT_KERNEL, params, timeout=timeout)

    async def create_session(
        self,
        kernels: Sequence[Mapping[str, Any]],
        session_id: str | None = None,
        *,
        timeout: Timeout = ...,
    ) -> m.SessionCreated:
        """Create all kernels of a session, or none. Safe to repeat with the same session id."""
        params = {"session_id": session_id, "kernels": [dict(spec) for spec in kernels]}
        return await self.call(methods.CREATE_SESSION, params, timeout=timeout)

    async def list_sessions(self, *, include_ended: bool = False) -> list[m.SessionRow]:
        """List sessions with their kernels, oldest first."""
        return await self.call(methods.LIST_SESSIONS, {"all": include_ended})

    async def destroy_session(
        self, session_id: str, reason: str = "user-requested", *, timeout: Timeout = ...
    ) -> list[m.KernelRow]:
        """Destroy all kernels of a session. Safe to repeat."""
        params = {"session_id": session_id, "reason": reason}
        return await self.call(methods.DESTROY_SESSION, params, timeout=timeout)

    async def get_logs(
        self, kernel_id: str, *, follow: bool = False
    ) -> AsyncGenerator[m.LogItem, None]:
        """Yield a kernel's log; with `follow` until it ends."""
        params = {"kernel_id": kernel_id, "follow": follow}
        async with await self.stream(methods.GET_LOGS, params) as items:
            async for item in items:
                yield cast("m.LogItem", item)

    async def watch_events(
        self,
        kernel_id: str | None = None,
        *,
        since: str | None = None,
        follow: bool = False,
        progress: bool = False,
    ) -> AsyncGenerator[m.EventItem, None]:
        """Yield retained events, and with `follow` those that happen."""
        params = {
            "kernel_id": kernel_id,
            "since": since,
            "follow": follow,
            "progress": progress,
        }
        async with await self.stream(methods.WATCH_EVENTS, params) as items:
            async for item in items:
                yield cast("m.EventItem", item)

    async def execute_code(
        self,
        kernel_id: str,
        code: str,
        *,
        mode: Literal["query", "batch"] = "query",
        run_id: str | None = None,
        options: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[m.OutputItem | m.RunResult, None]:
        """Run code: yields its output and, last, the result. Closing it early interrupts.

        Media and HTML that came in pieces are yielded whole. `run_id` names the run for
        `send_input` and `interrupt_kernel`, by default a random one; `timeout` is seconds of
        running.
        """
        params = {
            "kernel_id": kernel_id,
            "run_id": run_id or token_hex(8),
            "mode": mode,
            "code": code,
            "options": dict(options or {}),
            "timeout": timeout,
        }
        pieces = Pieces()
        async with await self.stream(methods.EXECUTE_CODE, params) as items:
            async for item in items:
                for whole in pieces.add(cast("m.OutputItem", item)):
                    yield whole
            for rest in pieces.cut_short():
                yield rest
            yield cast("m.RunResult", items.result)

    async def send_input(self, kernel_id: str, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""
        params = {"kernel_id": kernel_id, "run_id": run_id, "text": text}
        await self.call(methods.SEND_INPUT, params)

    async def interrupt_kernel(self, kernel_id: str, run_id: str | None = None) -> None:
        """Interrupt a run, by default the current one."""
        params = {"kernel_id": kernel_id, "run_id": run_id}
        await self.call(methods.INTERRUPT_KERNEL, params)

    async def complete_code(self, kernel_id: str, code: str, cursor: int) -> list[str]:
        """List completions at the cursor."""
        params = {"kernel_id": kernel_id, "code": code, "cursor": cursor}
        return (await self.call(methods.COMPLETE_CODE, params)).matches

    async def list_runs(self, kernel_id: str) -> list[c.RunRow]:
        """List the last runs of a kernel that runs, the oldest first."""
        return await self.call(methods.LIST_RUNS, {"kernel_id": kernel_id})

    async def list_services(self, kernel_id: str) -> list[c.ServiceRow]:
        """List the services of a kernel."""
        return await self.call(methods.LIST_SERVICES, {"kernel_id": kernel_id})

    async def start_service(
        self,
        kernel_id: str,
        name: str,
        options: Mapping[str, str] | None = None,
        *,
        timeout: Timeout = ...,
    ) -> c.ServiceRow:
        """Start a service of a kernel; returns once it runs.

        The option ``timeout`` is how many seconds it may take; that is waited for unless another
        `timeout` is given, after which the service goes on.
        """
        params = {"kernel_id": kernel_id, "name": name, "options": dict(options or {})}
        seconds = c.start_patience(options or {}) if timeout is ... else timeout
        return await self.call(methods.START_SERVICE, params, timeout=seconds)

    async def shutdown_service(self, kernel_id: str, name: str) -> None:
        """End a service of a kernel."""
        params = {"kernel_id": kernel_id, "name": name}
        await self.call(methods.SHUTDOWN_SERVICE, params, timeout=c.SERVICE_PATIENCE)

    async def upload_file(
        self, kernel_id: str, path: str, tar: AsyncIterable[bytes], *, timeout: Timeout = ...
    ) -> int:
        """Unpack a tar stream at a path of a kernel; returns how many bytes were sent."""
        upload = {"kernel_id": kernel_id, "path": path, "upload_id": token_hex(8)}
        taken = 0
        async for piece in _pieces(tar):
            params = {**upload, "offset": taken, "data": piece, "last": False}
            taken = (await self.call(methods.UPLOAD_FILE, params, timeout=timeout)).taken
        params = {**upload, "offset": taken, "data": b"", "last": True}
        return (await self.call(methods.UPLOAD_FILE, params, timeout=timeout)).taken

    async def download_file(self, kernel_id: str, path: str) -> AsyncGenerator[bytes, None]:
        """Yield a path of a kernel as a tar stream."""
        params = {"kernel_id": kernel_id, "path": path}
        async with await self.stream(methods.DOWNLOAD_FILE, params) as items:
            async for item in items:
                yield cast("c.FileChunk", item).data

    async def list_files(self, kernel_id: str, path: str) -> list[c.FileRow]:
        """List a directory of a kernel."""
        return await self.call(methods.LIST_FILES, {"kernel_id": kernel_id, "path": path})

    async def commit_kernel(
        self, kernel_id: str, image: str, archive: str = "", *, timeout: float | None = None
    ) -> c.CommitState:
        """Make a kernel's container into an image, and a file of it; it goes on after a timeout."""
        params = {"kernel_id": kernel_id, "image": image, "archive": archive}
        return await self.call(methods.COMMIT_KERNEL, params, timeout=timeout)

    async def get_commit_status(self, kernel_id: str) -> c.CommitState:
        """Say what became of the last commit of a kernel."""
        return await self.call(methods.GET_COMMIT_STATUS, {"kernel_id": kernel_id})

    async def list_commands(self) -> list[c.CommandRow]:
        """List the commands of the backend's own."""
        return await self.call(methods.LIST_COMMANDS)

    async def call_backend(
        self, name: str, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Call a command of the backend's own."""
        data = {"name": name, "params": dict(params or {})}
        return (await self.call(methods.CALL_BACKEND, data)).values

    async def list_leaks(self) -> list[m.Leak]:
        """Compare the ledger with the world in both directions."""
        return await self.call(methods.LIST_LEAKS)

    async def show_ledger(self) -> led.LedgerView:
        """Say what is in the ledger."""
        return await self.call(methods.SHOW_LEDGER)

    async def backup_ledger(
        self, to: str | None = None, *, timeout: Timeout = ...
    ) -> led.BackupRow:
        """Copy the ledger, to a path on the agent's node or to one of the two that it keeps."""
        return await self.call(methods.BACKUP_LEDGER, {"to": to}, timeout=timeout)

    async def fix_leaks(self, *, timeout: Timeout = ...) -> list[r.MendedLeak]:
        """Give back what is provably the agent's and held by nobody; goes on after a timeout."""
        return await self.call(methods.FIX_LEAKS, timeout=timeout)

    async def reconcile(self, *, timeout: Timeout = ...) -> r.Reconciliation:
        """Compare the ledger with the world once and act on it; goes on after a timeout."""
        return await self.call(methods.RECONCILE, timeout=timeout)

    async def plan_reconcile(self, *, timeout: Timeout = ...) -> r.Reconciliation:
        """Learn what `reconcile` would do now, and why."""
        return await self.call(methods.PLAN_RECONCILE, timeout=timeout)

    async def get_config(self) -> dict[str, Any]:
        """Return the configuration in effect, secrets masked."""
        return (await self.call(methods.GET_CONFIG)).values

    async def reload_config(self, *, timeout: Timeout = ...) -> m.Reloaded:
        """Let the agent read its configuration again; says what needs a restart."""
        return await self.call(methods.RELOAD_CONFIG, timeout=timeout)


async def _pieces(tar: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Cut a stream into pieces that one message holds."""
    async for chunk in tar:
        for start in range(0, len(chunk), c.CHUNK):
            yield chunk[start : start + c.CHUNK]
