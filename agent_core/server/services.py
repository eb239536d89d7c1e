"""The services that RPC methods call, as protocols; the composition root supplies them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from agent_core.wire import content as c
from agent_core.wire import decisions as d
from agent_core.wire import ledger as led
from agent_core.wire import models as m
from agent_core.wire import params as p
from agent_core.wire import reconciling as r


class Node(Protocol):
    """The node as a whole: status, plugins, devices, slots, images, leaks, configuration."""

    def status(self) -> m.Status:
        """Describe the agent at a glance."""
        ...

    def plugins(self) -> Sequence[m.PluginRow]:
        """List every plugin found, with its state."""
        ...

    def plugin(self, name: str) -> m.PluginDetail:
        """Show one plugin with its decision trail; NotFound when there is none."""
        ...

    async def reset_plugin(self, name: str) -> m.PluginRow:
        """Lift a plugin's quarantine and start its worker anew; NotFound, Unsupported, Conflict."""
        ...

    def devices(self) -> Sequence[m.DeviceRow]:
        """List the devices of all ready plugins."""
        ...

    def slots(self) -> Sequence[m.SlotRow]:
        """List the slots of this node."""
        ...

    async def images(self) -> Sequence[m.ImageRow]:
        """List the images that can be started."""
        ...

    def commands(self) -> Sequence[c.CommandRow]:
        """List the commands of the backend's own."""
        ...

    async def command(self, name: str, params: Mapping[str, Any]) -> c.CommandResult:
        """Call a command of the backend's own; NotFound when it has none of that name."""
        ...

    async def leaks(self) -> Sequence[m.Leak]:
        """Compare the ledger with the world in both directions."""
        ...

    async def ledger(self) -> led.LedgerView:
        """Say what is in the ledger."""
        ...

    async def back_up(self, to: str | None) -> led.BackupRow:
        """Copy the ledger to a path, or to one of the kept ones; Conflict when it is taken."""
        ...

    async def fix_leaks(self) -> Sequence[r.MendedLeak]:
        """Give back what is provably ours and held by nobody, and say what was done or why not."""
        ...

    async def reconcile(self, *, act: bool) -> r.Reconciliation:
        """Compare the ledger with the world once; without `act` only say what would be done."""
        ...

    def config(self) -> Mapping[str, Any]:
        """Return the configuration in effect, secrets masked."""
        ...

    async def reload(self) -> m.Reloaded:
        """Read the configuration again; InvalidConfig when it has a fault."""
        ...


class Kernels(Protocol):
    """The kernels of this node; every id may be a unique prefix."""

    async def create(self, spec: Mapping[str, Any]) -> m.Created:
        """Accept a create; answers once PREPARING is committed. Idempotent by kernel id."""
        ...

    async def plan(self, spec: Mapping[str, Any]) -> d.Plan:
        """Decide what a create would get now, and take nothing."""
        ...

    async def explain(self, kernel_id: str) -> d.Explanation:
        """Explain why a kernel has what it has."""
        ...

    async def destroy(self, kernel_id: str, reason: str) -> m.KernelRow:
        """Accept a destroy; answers once TERMINATING is committed, or at once when it has ended."""
        ...

    async def restart(self, kernel_id: str, incarnation: int | None) -> m.KernelRow:
        """Accept a restart; answers once RESTARTING is committed, or at once when it was."""
        ...

    async def list(self, *, include_ended: bool) -> Sequence[m.KernelRow]:
        """List kernels, oldest first."""
        ...

    async def list_ports(self) -> Sequence[m.KernelPortRow]:
        """List what kernels publish and where that is reached."""
        ...

    async def show(self, kernel_id: str) -> m.KernelDetail:
        """Show one kernel with claims, holds, timings and present use."""
        ...

    async def wait(self, kernel_id: str, states: Sequence[str]) -> m.KernelRow:
        """Return once the kernel is in one of the states, or TERMINATED."""
        ...

    async def create_session(
        self, session_id: str | None, specs: Sequence[Mapping[str, Any]]
    ) -> m.SessionCreated:
        """Accept all kernels of a session, or none."""
        ...

    async def list_sessions(self, *, include_ended: bool) -> Sequence[m.SessionRow]:
        """List sessions with their kernels, oldest first."""
        ...

    async def destroy_session(self, session_id: str, reason: str) -> Sequence[m.KernelRow]:
        """Accept the destroy of all kernels of a session; NotFound when there never was one."""
        ...

    def logs(self, kernel_id: str, *, follow: bool) -> AsyncIterator[m.LogItem]:
        """Yield the kernel's log."""
        ...

    def events(
        self, kernel_id: str | None, *, since: str | None, follow: bool, progress: bool
    ) -> AsyncIterator[m.EventItem]:
        """Yield retained events, and with `follow` those that happen."""
        ...


class Code(Protocol):
    """Running code in kernels."""

    def execute(self, params: p.ExecuteCode) -> AsyncIterator[m.OutputItem | m.RunResult]:
        """Run code; yields output and, last, the result. Abandoning the stream interrupts."""
        ...

    async def send_input(self, kernel_id: str, run_id: str, text: str) -> None:
        """Answer a run that waits for input."""
        ...

    async def interrupt(self, kernel_id: str, run_id: str | None) -> None:
        """Interrupt a run, by default the current one."""
        ...

    async def complete(self, kernel_id: str, code: str, cursor: int) -> Sequence[str]:
        """List completions at the cursor."""
        ...

    async def runs(self, kernel_id: str) -> Sequence[c.RunRow]:
        """List the last runs of a kernel."""
        ...

    async def services(self, kernel_id: str) -> Sequence[c.ServiceRow]:
        """List the services of a kernel."""
        ...

    async def start_service(
        self, kernel_id: str, name: str, options: Mapping[str, str]
    ) -> c.ServiceRow:
        """Start a service, or say how it is when it runs."""
        ...

    async def shutdown_service(self, kernel_id: str, name: str) -> None:
        """End a service; succeeds when it does not run."""
        ...


class Content(Protocol):
    """What is in the node and in its kernels: images, files and commits."""

    def pull(self, name: str) -> AsyncIterator[c.PullProgress]:
        """Fetch an image; callers of one image share it, and it goes on without them."""
        ...

    def push(self, name: str) -> AsyncIterator[c.PullProgress]:
        """Send an image to its registry."""
        ...

    async def purge(self, name: str) -> None:
        """Remove an image from the node."""
        ...

    async def upload(self, params: c.UploadFile) -> c.UploadState:
        """Take one piece of a tar stream."""
        ...

    def download(self, kernel_id: str, path: str) -> AsyncIterator[c.FileChunk]:
        """Yield a path of a kernel as a tar stream."""
        ...

    async def files(self, kernel_id: str, path: str) -> Sequence[c.FileRow]:
        """List a directory of a kernel."""
        ...

    async def commit(self, kernel_id: str, image: str, archive: str = "") -> c.CommitState:
        """Make a kernel's container into an image; Conflict while another commit of it runs."""
        ...

    async def commit_state(self, kernel_id: str) -> c.CommitState:
        """Say what became of the last commit of a kernel."""
        ...
