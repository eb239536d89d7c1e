"""The ledger against the world: what differs, what is done about it, and what nobody holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from agent_core.cli.options import AgentCommand, current
from agent_core.cli.output import plain, print_json, print_rows, shown

_PATIENCE: Final = 600.0
"""Seconds to wait for an answer: what is removed is asked to end first."""


@click.command(cls=AgentCommand, examples="agentctl reconcile --dry-run\nagentctl reconcile --json")
@click.option("--dry-run", is_flag=True, help="Say what would be done and why; do nothing.")
def reconcile(*, dry_run: bool) -> None:
    """Compare the ledger with the world once, and end or remove what that asks for.

    The agent does so by itself every few seconds; see `[agent.sync-container-lifecycles]`.
    """
    from agent_core.cli.connection import ask

    if dry_run:
        found = plain(ask(lambda agent: agent.plan_reconcile(timeout=_PATIENCE)))
    else:
        found = plain(ask(lambda agent: agent.reconcile(timeout=_PATIENCE)))
    if current().json:
        print_json(found)
        return
    _print_found(found)


def _print_found(found: Mapping[str, Any]) -> None:
    for warning in found["warnings"]:
        click.echo(f"warning: {shown(warning)}", err=True)
    if found["actions"]:
        columns = {"KIND": "kind", "KEY": "key", "VERDICT": "verdict", "BECAUSE": "because"}
        if not found["dry_run"]:
            columns["DONE"] = "outcome"
        print_rows(found["actions"], columns, empty="")
    click.echo(f"{found['agreed']} of {found['kernels']} kernels are as the ledger says", err=True)


@click.command(cls=AgentCommand, examples="agentctl leaks\nagentctl leaks --fix")
@click.option(
    "--fix",
    is_flag=True,
    help="Give back what is provably this agent's, held by nobody, and old enough.",
)
def leaks(*, fix: bool) -> int:
    """List what is held by nobody, and what should be held and is not there.

    With --fix the exit code is 1 when something could not be given back that should have been.
    """
    return _fix() if fix else _list()


def _list() -> int:
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_leaks())]
    columns = {"KIND": "kind", "KEY": "key", "KERNEL": "kernel_id"}
    columns |= {"STATE": "state", "DETAIL": "detail"}
    print_rows(rows, columns, empty="nothing is held by nobody")
    return 0


def _fix() -> int:
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.fix_leaks(timeout=_PATIENCE))]
    columns = {"KIND": "kind", "KEY": "key", "KERNEL": "kernel_id"}
    columns |= {"OUTCOME": "outcome", "BECAUSE": "because"}
    print_rows(rows, columns, empty="nothing is held by nobody")
    return int(any(row["outcome"] == "failed" for row in rows))
