"""Creating and restarting a kernel while showing its steps as they are taken."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

import click

from agent_core.cli.options import current
from agent_core.cli.output import plain, shown
from agent_core.client.client import AgentClient
from agent_core.contracts.errors import DeadlineExceeded, KernelFailed
from agent_core.wire.models import EventItem, KernelDetail, KernelRow

_ARRIVED: Final = frozenset({"kernel.running", "kernel.terminating", "kernel.terminated"})


async def create_kernel(
    agent: AgentClient, spec: Mapping[str, Any], *, wait: bool, timeout: float | None
) -> dict[str, Any]:
    """Create a kernel; returns its ids and its state.

    Args:
        agent: The connected client.
        spec: What is asked for.
        wait: Whether to wait until it runs.
        timeout: Seconds to wait; the create goes on beyond them.

    Raises:
        KernelFailed: when it ended instead of running.
        DeadlineExceeded: when it does not run in time.
        AgentError: when the create is refused.
    """
    created = (await agent.create_kernel(spec)).model_dump(mode="json")
    if not wait:
        return created
    row = await _arrive(agent, created["kernel_id"], 1, timeout)
    return {**created, "state": row.state}


async def restart_kernel(
    agent: AgentClient, kernel_id: str, *, wait: bool, timeout: float | None
) -> dict[str, Any]:
    """Restart a kernel; returns its row.

    Args:
        agent: The connected client.
        kernel_id: Its id or a unique prefix of it.
        wait: Whether to wait until it runs again.
        timeout: Seconds to wait; the restart goes on beyond them.

    Raises:
        KernelFailed: when it ended instead of running.
        DeadlineExceeded: when it does not run in time.
        AgentError: when the restart is refused.
    """
    before = await agent.get_kernel_status(kernel_id)
    row = await agent.restart_kernel(before.kernel_id, before.incarnation)
    if wait:
        row = await _arrive(agent, row.kernel_id, row.incarnation, timeout)
    return plain(row)


async def _arrive(
    agent: AgentClient, kernel_id: str, incarnation: int, timeout: float | None
) -> KernelRow:
    """Wait until an incarnation runs, and show its steps meanwhile."""
    progress = _Progress(quiet=current().json)
    try:
        async with asyncio.timeout(timeout):
            await _follow(agent, kernel_id, incarnation, progress)
            row = await agent.wait_kernel(kernel_id, ["RUNNING"])
    except TimeoutError as exc:
        raise DeadlineExceeded(
            f"kernel {kernel_id} does not run after {timeout:g} s",
            details={"kernel_id": kernel_id},
        ) from exc
    detail = await agent.get_kernel_status(kernel_id)
    progress.catch_up(detail)
    if row.state == "RUNNING" or has_run(row):
        progress.done("running" if row.state == "RUNNING" else f"ended: {row.reason}")
        return row
    progress.done("failed")
    raise failure(detail)


async def _follow(
    agent: AgentClient, kernel_id: str, incarnation: int, progress: _Progress
) -> None:
    events = agent.watch_events(kernel_id, follow=True, progress=True)
    async with aclosing(events) as items:
        async for item in items:
            progress.see(item)
            if item.name in _ARRIVED and item.data.get("incarnation", 1) >= incarnation:
                return


def has_run(row: KernelRow) -> bool:
    """Tell whether a kernel is over since its startup command is, however that ended."""
    return (row.reason or "").startswith("task-")


def failure(detail: KernelDetail) -> KernelFailed:
    """Say why a kernel did not run."""
    reason = detail.reason or "it ended"
    message = f": {detail.message}" if detail.message else ""
    return KernelFailed(
        f"kernel {detail.kernel_id} is {detail.state} instead of running: {reason}{message}",
        details={
            "kernel_id": detail.kernel_id,
            "state": detail.state,
            "reason": detail.reason,
            "exit_code": detail.exit_code,
        },
    )


class _Progress:
    """Shows steps on the standard error: in place on a terminal, as lines elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._in_place = sys.stderr.isatty()
        self._taken: set[str] = set()

    def see(self, item: EventItem) -> None:
        """Show what one event says."""
        if item.name != "kernel.step":
            return
        step, phase = str(item.data.get("step", "")), item.data.get("phase")
        if phase == "taking" and self._in_place and not self._quiet:
            click.echo(f"\r\x1b[K  ... {shown(step)}", nl=False, err=True)
        elif phase == "held":
            self._took(step, item.data.get("seconds"))
        elif phase == "given-back":
            self._line(f"  gave back {shown(step)}")

    def catch_up(self, detail: KernelDetail) -> None:
        """Show the steps that were taken before anybody watched."""
        for timing in detail.timings:
            self._took(timing.step, timing.seconds)

    def done(self, word: str) -> None:
        """Say how it came out."""
        self._line(f"  {word}")

    def _took(self, step: str, seconds: object) -> None:
        if step in self._taken:
            return
        self._taken.add(step)
        took = f"{seconds * 1000:8.1f} ms" if isinstance(seconds, int | float) else " " * 11
        self._line(f"{took}  {shown(step)}")

    def _line(self, text: str) -> None:
        if not self._quiet:
            click.echo(("\r\x1b[K" if self._in_place else "") + text, err=True)
