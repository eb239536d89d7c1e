"""The services of a kernel: listed, started and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentGroup, assignment, current
from agent_core.cli.output import plain, print_json, print_rows, shown

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient
    from agent_core.wire.content import ServiceRow
    from agent_core.wire.models import PortRow

_COLUMNS = {"NAME": "name", "PROTOCOL": "protocol", "PORTS": "ports", "RUNNING": "running"}
_OF_MODELS = {"STATUS": "status", "RESTARTS": "restarts"}


@click.group(
    cls=AgentGroup,
    examples="agentctl services list KERNEL\nagentctl services start KERNEL jupyter",
)
def services() -> None:
    """The services of a kernel, such as a notebook server."""


@services.command("list", examples="agentctl services list KERNEL")
@click.argument("kernel_id", metavar="ID")
def list_services(kernel_id: str) -> None:
    """List the services of a kernel, whether they were started, and how its models are."""
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_services(kernel_id))]
    if current().json:
        print_json(rows)
        return
    models = [row for row in rows if row["model"]]
    columns = _COLUMNS | (_OF_MODELS if models else {}) | {"EXIT": "exit_code"}
    print_rows(map(_cells, rows), columns, empty="the kernel has no service")
    for row in (row for row in models if row["model"]["message"]):
        click.echo(f"{shown(row['name'])}: {shown(row['model']['message'])}", err=True)


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    model = row["model"] or {}
    cells = {**row, "ports": ",".join(map(str, row["ports"]))}
    return {**cells, "status": model.get("status"), "restarts": model.get("restarts")}


@services.command("start", examples="agentctl services start KERNEL jupyter --option theme=dark")
@click.argument("kernel_id", metavar="ID")
@click.argument("name")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the service.")
def start(kernel_id: str, name: str, *, options: tuple[str, ...]) -> None:
    """Start a service; one that runs is left as it is."""
    from agent_core.cli.connection import ask

    pairs = dict(assignment(text, "--option") for text in options)

    async def start_and_find(agent: AgentClient) -> tuple[ServiceRow, list[PortRow]]:
        started = await agent.start_service(kernel_id, name, pairs)
        return started, (await agent.get_kernel_status(kernel_id)).ports

    row, ports = ask(start_and_find)
    if current().json:
        print_json(plain(row))
    else:
        inside = ", ".join(map(str, row.ports))
        reached = ", ".join(port.address for port in ports if port.name == row.name)
        where = f", reached at {shown(reached)}" if reached else ""
        how = "running" if row.model is None else row.model.status
        click.echo(f"{shown(row.name)}: {how} on port {inside} of the kernel{where}")


@services.command("stop", examples="agentctl services stop KERNEL jupyter")
@click.argument("kernel_id", metavar="ID")
@click.argument("name")
def stop(kernel_id: str, name: str) -> None:
    """End a service; succeeds when it does not run."""
    from agent_core.cli.connection import ask

    ask(lambda agent: agent.shutdown_service(kernel_id, name))
    if current().json:
        print_json({"name": name, "running": False})
    else:
        click.echo(f"{shown(name)}: ended")
