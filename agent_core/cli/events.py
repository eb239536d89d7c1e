"""Watching what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentCommand, current
from agent_core.cli.output import moment, plain, print_json, print_json_line, shown

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient


@click.command(
    cls=AgentCommand,
    examples="agentctl events\nagentctl events --follow --kernel KERNEL --progress",
)
@click.option("--follow", is_flag=True, help="Go on with what happens.")
@click.option("--kernel", "kernel_id", metavar="ID", help="Only those of one kernel.")
@click.option("--since", metavar="EVENT", help="Only those after the event with this id.")
@click.option("--progress", is_flag=True, help="Also the steps, which are not kept.")
def events(*, follow: bool, kernel_id: str | None, since: str | None, progress: bool) -> None:
    """Print the events that are kept, and with --follow those that happen.

    As JSON an array, with --follow one object in each line.
    """
    from agent_core.cli.connection import ask

    wanted = {"kernel_id": kernel_id, "since": since, "follow": follow, "progress": progress}
    ask(lambda agent: _print_events(agent, wanted, follow=follow))


async def _print_events(agent: AgentClient, wanted: dict[str, Any], *, follow: bool) -> None:
    from contextlib import aclosing

    rows = []
    async with aclosing(agent.watch_events(**wanted)) as items:
        async for item in items:
            row = plain(item)
            if not current().json:
                click.echo(_line(row))
            elif follow:
                print_json_line(row)
            else:
                rows.append(row)
    if current().json and not follow:
        print_json(rows)


def _is_said(row: dict[str, Any], key: str, value: object) -> bool:
    """Say whether a transition's name has told this already, or it is as it always is."""
    is_transition = row["name"] == f"kernel.{str(row['data'].get('to')).lower()}"
    return is_transition and (key in {"from", "to"} or (key, value) == ("incarnation", 1))


def _line(row: dict[str, Any]) -> str:
    data = {key: value for key, value in row["data"].items() if not _is_said(row, key, value)}
    words = [moment(row["at"]), f"{row['name']:<20}", row["kernel_id"], data]
    return "  ".join(shown(word) for word in words if word).rstrip()
