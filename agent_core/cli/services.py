"""The services of a kernel: listed, started and ended."""

from __future__ import annotations

import click

from agent_core.cli.options import AgentGroup, assignment, current
from agent_core.cli.output import plain, print_json, print_rows, shown


@click.group(
    cls=AgentGroup,
    examples="agentctl services list KERNEL\nagentctl services start KERNEL jupyter",
)
def services() -> None:
    """The services of a kernel, such as a notebook server."""


@services.command("list", examples="agentctl services list KERNEL")
@click.argument("kernel_id", metavar="ID")
def list_services(kernel_id: str) -> None:
    """List the services of a kernel, and whether they were started."""
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_services(kernel_id))]
    if not current().json:
        rows = [{**row, "ports": ",".join(map(str, row["ports"]))} for row in rows]
    columns = {
        "NAME": "name",
        "PROTOCOL": "protocol",
        "PORTS": "ports",
        "RUNNING": "running",
        "EXIT": "exit_code",
    }
    print_rows(rows, columns, empty="the kernel has no service")


@services.command("start", examples="agentctl services start KERNEL jupyter --option theme=dark")
@click.argument("kernel_id", metavar="ID")
@click.argument("name")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the service.")
def start(kernel_id: str, name: str, *, options: tuple[str, ...]) -> None:
    """Start a service; one that runs is left as it is."""
    from agent_core.cli.connection import ask

    pairs = dict(assignment(text, "--option") for text in options)
    row = ask(lambda agent: agent.start_service(kernel_id, name, pairs))
    if current().json:
        print_json(plain(row))
    else:
        ports = ", ".join(map(str, row.ports))
        click.echo(f"{shown(row.name)}: running on port {ports} of the kernel")


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
