"""Looking at the node: status, devices, slots and leaks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentCommand, AgentGroup, current
from agent_core.cli.output import moment, plain, print_fields, print_json, print_rows, shown, size

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient


@click.command(cls=AgentCommand, examples="agentctl status\nagentctl status --json")
def status() -> None:
    """Show the agent at a glance."""
    from agent_core.cli.connection import ask

    row = plain(ask(lambda agent: agent.get_status()))
    if current().json:
        print_json(row)
        return
    warnings = row.pop("warnings")
    row.pop("conditions")  # the warnings have their words
    row["started_at"] = moment(row["started_at"])
    print_fields({key.replace("_", " "): value for key, value in row.items()})
    for warning in warnings:
        click.echo(f"warning: {shown(warning)}", err=True)


@click.group(cls=AgentGroup)
def devices() -> None:
    """The devices that the plugins found."""


@devices.command("list", examples="agentctl devices list")
def list_devices() -> None:
    """List the devices, what they offer and what of it is used."""
    from agent_core.cli.connection import ask

    if current().json:
        print_json([plain(row) for row in ask(lambda agent: agent.list_devices())])
        return
    rows, slots = ask(_devices_and_slots)
    in_bytes = {row["slot"] for row in slots if row["type"] == "bytes"}
    rows = [{**row, "used": _readable_used(row["used"], in_bytes)} for row in rows]
    columns = {
        "ID": "id",
        "PLUGIN": "plugin",
        "MODEL": "model",
        "HEALTH": "health",
        "OFFERS": "offers",
        "USED": "used",
    }
    if any(row["withheld"] for row in rows):
        columns["WITHHELD"] = "withheld"
    if any(row["evidence"] and not row["withheld"] for row in rows):
        # Why a device is withheld has its evidence in it.
        columns["EVIDENCE"] = "evidence"
    print_rows(rows, columns, empty="no ready plugin has a device")


async def _devices_and_slots(
    agent: AgentClient,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    devices, slots = await agent.list_devices(), await agent.list_slots()
    return [plain(row) for row in devices], [plain(row) for row in slots]


def _readable_used(used: Mapping[str, str], in_bytes: Collection[str]) -> list[str]:
    amounts = {s: size(float(amount)) if s in in_bytes else amount for s, amount in used.items()}
    return [f"{slot}={amount}" for slot, amount in amounts.items()]


@click.command(cls=AgentCommand, examples="agentctl slots")
def slots() -> None:
    """List the slots of this node: total, used, and free for one more kernel."""
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_slots())]
    if not current().json:
        rows = [_readable_slot(row) for row in rows]
    columns = {
        "SLOT": "slot",
        "PLUGIN": "plugin",
        "TYPE": "type",
        "QUANTUM": "quantum",
        "TOTAL": "total",
        "USED": "used",
        "FREE": "free",
        "STATE": "state",
    }
    print_rows(rows, columns, empty="no ready plugin offers a slot")


def _readable_slot(row: dict[str, Any]) -> dict[str, Any]:
    if row["type"] != "bytes":
        return row
    amounts = {key: size(float(row[key])) for key in ("quantum", "total", "used", "free")}
    return {**row, **amounts}
