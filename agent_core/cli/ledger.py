"""The agent's ledger: what is in it, how it is, and a copy of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import moment, plain, print_fields, print_json, print_rows, shown, size

if TYPE_CHECKING:
    from agent_core.wire.ledger import LedgerView

_HOLDS = {
    "KIND": "kind",
    "KEY": "key",
    "KERNEL": "kernel_id",
    "STATE": "state",
    "SINCE": "since",
    "NOTE": "note",
}


@click.group(
    cls=AgentGroup,
    examples="agentctl ledger check\nagentctl ledger show\nagentctl ledger backup",
)
def ledger() -> None:
    """The agent's durable memory: kernels, holds and events, in one SQLite database."""


@ledger.command("check", examples="agentctl ledger check\nagentctl ledger check copy.db --json")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def check(*, path: Path | None) -> int:
    """Say how the ledger of this machine's agent is, or the one at PATH; changes nothing.

    It works while the agent runs and while it does not. The exit code is 1 when the next start
    could not go on with the file as it is.
    """
    from agent_core.ledger.report import check_file

    found = plain(check_file(path or _ledger()))
    if current().json:
        print_json(found)
        return int(not found["ok"])
    problems, backups, rows = found.pop("problems"), found.pop("backups"), found.pop("rows")
    print_fields({**_named(found), **{f"{name} rows": count for name, count in rows.items()}})
    for backup in backups:
        state = "sound" if backup["sound"] else "not usable"
        click.echo(f"backup: {shown(backup['path'])} of {moment(backup['at'])}, {state}")
    for problem in problems:
        click.echo(f"problem: {shown(problem)}", err=True)
    return int(not found["ok"])


@ledger.command("show", examples="agentctl ledger show\nagentctl ledger show --json")
def show() -> None:
    """Show what is in the ledger: kernels by state, holds, and when it was backed up last.

    The agent is asked; where none answers the file of this machine's agent is read.
    """
    found = plain(_view())
    if current().json:
        print_json(found)
        return
    holds, recovery, last = found.pop("holds"), found.pop("recovery"), found.pop("last_backup")
    found["size"] = size(found["size"])
    found["last_backup"] = f"{moment(last['at'])} {last['path']}" if last else "none"
    print_fields(_named(found))
    if recovery is not None:
        click.echo(f"lost at {moment(recovery['at'])}: {shown(recovery['why'])}")
    if holds:
        rows = [{**hold, "since": moment(hold["since"])} for hold in holds]
        print_rows(rows, _HOLDS, empty="")


@ledger.command(
    "backup", examples="agentctl ledger backup\nagentctl ledger backup --to /srv/ledger.db"
)
@click.option(
    "--to",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A file that is not there yet, on the agent's node; else one of the two it keeps.",
)
def backup(*, to: Path | None) -> None:
    """Copy the ledger while the agent runs; what it writes meanwhile is not held up."""
    from agent_core.cli.connection import ask

    path = None if to is None else str(to.absolute())
    made = plain(ask(lambda agent: agent.backup_ledger(path)))
    if current().json:
        print_json(made)
    else:
        click.echo(f"{shown(made['path'])}  {size(made['size'])}")


def _view() -> LedgerView:
    from agent_core.cli.connection import ask
    from agent_core.contracts.errors import AgentUnreachable

    try:
        return ask(lambda agent: agent.show_ledger())
    except AgentUnreachable:
        if current().agent or os.environ.get("AGENT_ADDRESS"):
            raise  # another machine's agent, perhaps: its file is not here
    from agent_core.ledger.report import view_file

    return view_file(_ledger())


def _ledger() -> Path:
    from agent_core.config.quick import glance

    return glance(current().config).paths.state / "ledger.db"


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in fields.items()}
