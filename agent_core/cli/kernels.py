"""The kernels of this node: create, list, show, ports, logs, destroy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import (
    moment,
    plain,
    print_fields,
    print_json,
    print_json_line,
    print_rows,
    print_table,
    shown,
    size,
)
from agent_core.cli.specification import kernel_options, specification

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient

_PORTS = ("name", "protocol", "container_port", "address", "tls")
_RUNS = {
    "RUN": "run_id",
    "MODE": "mode",
    "STARTED": "started",
    "TOOK": "took",
    "STATUS": "status",
    "EXIT": "exit_code",
    "CODE": "code",
}
_LISTS = ("ports", "grants", "holds", "timings", "usage", "warnings")
_COLUMNS = {
    "KERNEL": "kernel_id",
    "STATE": "state",
    "IMAGE": "image",
    "SLOTS": "slots",
    "REASON": "reason",
    "EXIT": "exit_code",
    "CREATED": "created",
}


@click.group(
    cls=AgentGroup,
    examples="""
        agentctl kernels create --image python --slot cpu=1 --slot mem=256m
        agentctl kernels list
        agentctl kernels destroy KERNEL
    """,
)
def kernels() -> None:
    """The kernels of this node."""


@kernels.command(
    "create",
    examples="""
        agentctl kernels create --image python --slot cpu=1 --slot mem=256m
        agentctl kernels create --image python --slot cuda.shares=0.5 --env KEY=VALUE --no-wait
        agentctl kernels create --image python --port web:http:8080
        agentctl kernels create --image python --startup-command 'python train.py'
        agentctl kernels create --image python --slot cpu=8 --dry-run
    """,
)
@kernel_options
@click.option("--wait/--no-wait", default=True, help="Wait until it runs, which is the default.")
@click.option("--dry-run", is_flag=True, help="Decide what it would get and why; take nothing.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.")
def create(*, wait: bool, dry_run: bool, timeout: float | None, **asked: Any) -> int:
    """Create a kernel, and wait until it runs."""
    spec = specification(asked)

    from agent_core.cli.connection import ask
    from agent_core.cli.creating import create_kernel

    if dry_run:
        from agent_core.cli.explaining import show_plan

        return show_plan(ask(lambda agent: agent.plan_kernel(spec)))
    created = ask(lambda agent: create_kernel(agent, spec, wait=wait, timeout=timeout))
    if current().json:
        print_json(created)
    else:
        click.echo(created["kernel_id"])
    return 0


@kernels.command("list", examples="agentctl kernels list --all")
@click.option("--all", "include_ended", is_flag=True, help="Also those that have ended.")
def list_kernels(*, include_ended: bool) -> None:
    """List the kernels, oldest first."""
    from agent_core.cli.connection import ask

    found = ask(lambda agent: agent.list_kernels(include_ended=include_ended))
    rows = [plain(row) for row in found]
    if not current().json:
        rows = [{**row, "created": moment(row["created_at"])} for row in rows]
    print_rows(rows, _COLUMNS, empty="there is no kernel")


@kernels.command("show", examples="agentctl kernels show KERNEL --timing")
@click.argument("kernel_id", metavar="ID")
@click.option("--timing", is_flag=True, help="How long each step took.")
def show(kernel_id: str, *, timing: bool) -> None:
    """Show one kernel: its state, what it was given, what it uses."""
    from agent_core.cli.connection import ask

    row = plain(ask(lambda agent: agent.get_kernel_status(kernel_id)))
    if current().json:
        print_json(row)
        return
    lists = {name: row.pop(name) for name in _LISTS}
    for name in ("created_at", "started_at", "ended_at"):
        row[name] = moment(row[name])
    print_fields({key.replace("_", " "): value for key, value in row.items() if value is not None})
    _print_usage(lists["usage"])
    _print_list(lists["ports"], _PORTS)
    _print_list(lists["grants"], ("plugin", "slot", "device_id", "amount"))
    _print_list(lists["holds"], ("kind", "key", "state", "owner"))
    if timing:
        _print_timings(lists["timings"])
    for warning in lists["warnings"]:
        click.echo(f"warning: {shown(warning)}", err=True)


def _print_usage(usage: list[dict[str, Any]]) -> None:
    cells = []
    for reading in usage:
        is_bytes = reading["unit"] == "bytes"
        value = size(reading["value"]) if is_bytes else f"{reading['value']:g} {reading['unit']}"
        capacity = reading["capacity"]
        of = "" if capacity is None else size(capacity) if is_bytes else f"{capacity:g}"
        cells.append([shown(reading["metric"]), value, of])
    if cells:
        click.echo()
        print_table(["USES", "NOW", "OF"], cells)


def _print_list(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    if rows:
        click.echo()
        titles = [key.upper().replace("_ID", "").replace("_", " ") for key in keys]
        print_table(titles, [[shown(row[key]) for key in keys] for row in rows])


def _print_timings(timings: list[dict[str, Any]]) -> None:
    click.echo()
    cells = [
        [shown(t["step"]), f"{t['seconds'] * 1000:.1f} ms", f"{t['ledger_seconds'] * 1000:.1f} ms"]
        for t in timings
    ]
    print_table(["STEP", "TOOK", "OF IT LEDGER"], cells)


@kernels.command("ports", examples="agentctl kernels ports KERNEL\nagentctl kernels ports --all")
@click.argument("kernel_id", metavar="[ID]", required=False)
@click.option("--all", "of_all", is_flag=True, help="Of all kernels.")
def list_ports(kernel_id: str | None, *, of_all: bool) -> None:
    """List the ports that a kernel publishes, or all do, and where they are reached."""
    from agent_core.cli.connection import ask

    if of_all == (kernel_id is not None):
        raise click.UsageError("name a kernel, or say --all")
    columns = {name.upper().replace("_", " "): name for name in _PORTS}
    if kernel_id is not None:
        rows = [*map(plain, ask(lambda agent: agent.get_kernel_status(kernel_id)).ports)]
        print_rows(rows, columns, empty="it publishes no port")
        return
    rows = [*map(plain, ask(lambda agent: agent.list_ports()))]
    print_rows(rows, {"KERNEL": "kernel_id", **columns}, empty="no kernel publishes a port")


@kernels.command("logs", examples="agentctl kernels logs KERNEL --follow")
@click.argument("kernel_id", metavar="ID")
@click.option("--follow", "-F", is_flag=True, help="Go on until the kernel ends.")
def logs(kernel_id: str, *, follow: bool) -> None:
    """Print what a kernel's processes wrote, in runs of code and outside of them."""
    from agent_core.cli.connection import ask

    ask(lambda agent: _print_logs(agent, kernel_id, follow=follow))


async def _print_logs(agent: AgentClient, kernel_id: str, *, follow: bool) -> None:
    import codecs
    from contextlib import aclosing

    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    texts = []
    async with aclosing(agent.get_logs(kernel_id, follow=follow)) as items:
        async for item in items:
            text = decode(item.data)
            if not current().json:
                click.echo(text, nl=False)
            elif follow:
                print_json_line({"text": text})
            else:
                texts.append(text)
    if current().json and not follow:
        print_json({"kernel_id": kernel_id, "text": "".join(texts)})


@kernels.command("runs", examples="agentctl kernels runs KERNEL")
@click.argument("kernel_id", metavar="ID")
def list_runs(kernel_id: str) -> None:
    """List the last runs of a kernel that runs, whoever asked for them; the oldest first."""
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_runs(kernel_id))]
    if not current().json:
        rows = [{**row, "started": moment(row["started_at"]), "took": _took(row)} for row in rows]
    print_rows(rows, _RUNS, empty="nothing was run in it yet")


def _took(row: dict[str, Any]) -> str:
    if row["started_at"] is None or row["ended_at"] is None:
        return ""
    return f"{row['ended_at'] - row['started_at']:.3f} s"


@kernels.command("wait", examples="agentctl kernels wait KERNEL --timeout 3600")
@click.argument("kernel_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.")
def wait_for(kernel_id: str, *, timeout: float | None) -> int:
    """Wait until a kernel has ended; the exit code is 0 when its own one is."""
    from agent_core.cli.connection import ask

    row = ask(lambda agent: agent.wait_kernel(kernel_id, ["TERMINATED"], timeout=timeout))
    if current().json:
        print_json(plain(row))
    else:
        code = "" if row.exit_code is None else f", exit code {row.exit_code}"
        click.echo(f"{row.kernel_id}  {row.state} ({row.reason}{code})")
    return 0 if row.exit_code == 0 else 1


@kernels.command("restart", examples="agentctl kernels restart KERNEL")
@click.argument("kernel_id", metavar="ID")
@click.option("--wait/--no-wait", default=True, help="Wait until it runs again, the default.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.")
def restart(kernel_id: str, *, wait: bool, timeout: float | None) -> None:
    """Replace a kernel's container; it keeps its slots, its scratch and its id."""
    from agent_core.cli.connection import ask
    from agent_core.cli.creating import restart_kernel

    done = ask(lambda agent: restart_kernel(agent, kernel_id, wait=wait, timeout=timeout))
    if current().json:
        print_json(done)
    else:
        click.echo(f"{done['kernel_id']}  {done['state']} (incarnation {done['incarnation']})")


@kernels.command(
    "destroy",
    examples="agentctl kernels destroy KERNEL\nagentctl kernels destroy ONE TWO --no-wait",
)
@click.argument("kernel_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--wait/--no-wait", default=True, help="Wait until it is gone, the default.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.")
def destroy(kernel_ids: tuple[str, ...], *, wait: bool, timeout: float | None) -> int:
    """Destroy kernels, and wait until everything is given back."""
    from agent_core.cli.connection import ask
    from agent_core.cli.destroying import destroy_kernels

    return ask(lambda agent: destroy_kernels(agent, kernel_ids, wait=wait, timeout=timeout))


@kernels.command("files", examples="agentctl kernels files KERNEL /home/work")
@click.argument("kernel_id", metavar="ID")
@click.argument("path", default="/home/work")
def files(kernel_id: str, path: str) -> None:
    """List a directory of a kernel."""
    from agent_core.cli.files import show_files

    show_files(kernel_id, path)


@kernels.command(
    "commit",
    examples="""
        agentctl kernels commit KERNEL mine:1
        agentctl kernels commit KERNEL mine:1 --archive backups/mine.tar.gz
        agentctl kernels commit KERNEL --status
    """,
)
@click.argument("kernel_id", metavar="ID")
@click.argument("image", required=False)
@click.option("--archive", default="", metavar="PATH", help="Also write it to a file on the node.")
@click.option("--status", is_flag=True, help="Only show what became of the last commit.")
def commit(kernel_id: str, image: str | None, *, archive: str, status: bool) -> None:
    """Make a kernel's container into an image; it goes on when you leave."""
    if status is (image is not None):
        raise click.UsageError("give the name of the image, or --status")
    from agent_core.cli.files import commit as run

    run(kernel_id, image, archive)
