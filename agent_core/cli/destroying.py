"""Destroying several kernels: one that fails does not keep the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from agent_core.cli.options import current
from agent_core.cli.output import plain, print_error, print_json
from agent_core.client.client import AgentClient
from agent_core.contracts.errors import AgentError, AgentUnreachable


async def destroy_kernels(
    agent: AgentClient, kernel_ids: Sequence[str], *, wait: bool, timeout: float | None
) -> int:
    """Destroy each kernel and say what became of it; returns the exit code.

    Raises:
        AgentUnreachable: when the agent goes away meanwhile.
    """
    outcomes = await asyncio.gather(
        *(_destroy(agent, kernel_id, wait=wait, timeout=timeout) for kernel_id in kernel_ids),
        return_exceptions=True,
    )
    rows: list[dict[str, Any]] = []
    failed = False
    for kernel_id, outcome in zip(kernel_ids, outcomes, strict=True):
        if isinstance(outcome, AgentError) and not isinstance(outcome, AgentUnreachable):
            failed = True
            rows.append({"kernel_id": kernel_id, "error": outcome.to_dict()})
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            rows.append(outcome)
    _print(rows)
    return int(failed)


async def _destroy(
    agent: AgentClient, kernel_id: str, *, wait: bool, timeout: float | None
) -> dict[str, Any]:
    row = await agent.destroy_kernel(kernel_id)
    if wait:
        row = await agent.wait_kernel(row.kernel_id, ["TERMINATED"], timeout=timeout)
    return plain(row)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    if current().json:
        print_json(rows)
        return
    for row in rows:
        if "error" in row:
            print_error(row["error"], as_json=False)
        else:
            reason = f" ({row['reason']})" if row["reason"] else ""
            click.echo(f"{row['kernel_id']}  {row['state']}{reason}")
