"""Looking at the plugins: what is installed, what the agent made of it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import (
    plain,
    print_fields,
    print_json,
    print_rows,
    print_table,
    shown,
    shown_lines,
)

_COLUMNS = {
    "KIND": "kind",
    "NAME": "name",
    "STATE": "state",
    "DISTRIBUTION": "package",
    "CONTRACT": "contract",
    "LOAD": "load",
    "WHY": "reason",
}


@click.group(cls=AgentGroup, examples="agentctl plugins list\nagentctl plugins why cuda")
def plugins() -> None:
    """The plugins: which are installed, which are loaded, and why not."""


@plugins.command("list", examples="agentctl plugins list\nagentctl plugins list --live --json")
@click.option("--live", is_flag=True, help="Ask the running agent, not the installed metadata.")
def list_plugins(*, live: bool) -> None:
    """List the plugins, by default from metadata and the configuration alone."""
    rows = _live_rows() if live or current().agent else _installed_rows()
    if not current().json:
        rows = [_readable(row) for row in rows]
    print_rows(rows, _COLUMNS, empty="no plugin is installed")


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    load = row["load_ms"]
    package = f"{row['distribution']} {row['version']}"
    return {**row, "package": package, "load": "-" if load is None else f"{load:.0f} ms"}


def _live_rows() -> list[dict[str, Any]]:
    from agent_core.cli.connection import ask
    from agent_core.cli.output import plain

    return [plain(row) for row in ask(lambda agent: agent.list_plugins())]


def _installed_rows() -> list[dict[str, Any]]:
    # Nothing here may import a validation library, a plugin, or the client: three hundred
    # installed distributions are listed in the time that one of these takes to import.
    from agent_core.config.quick import glance
    from agent_core.host.candidates import survey
    from agent_core.host.policy import decide
    from agent_core.host.report import records_of

    found = survey()
    plan = decide(found.candidates, glance(current().config).selection)
    for notice in plan.notices:
        _remark(notice.severity, f"{notice.key}: {notice.message}", notice.hint)
    for problem in found.problems:
        _remark("warning", f"{problem.location}: {problem.reason}", problem.hint)
    return [record.row() for record in records_of(plan)]


def _remark(severity: str, message: str, hint: str) -> None:
    if not current().json:
        click.echo(f"{severity}: {shown(message)}{f' ({shown(hint)})' if hint else ''}", err=True)


@plugins.command("show", examples="agentctl plugins show cuda\nagentctl plugins show device:cpu")
@click.argument("name")
def show_plugin(name: str) -> None:
    """Show one plugin: its package, slots and capabilities."""
    detail = _detail(name)
    if current().json:
        print_json(detail)
        return
    package = f"{detail['distribution']} {detail['version']}"
    print_fields(
        {
            "name": detail["name"],
            "kind": detail["kind"],
            "state": detail["state"],
            "reason": detail["reason"],
            "hint": detail["hint"],
            "summary": detail["summary"],
            "package": package,
            "contract": detail["contract"],
            "entry point": detail["entry_point"],
            "location": detail["location"],
            "capabilities": detail["capabilities"],
            "worker": _worker(detail.get("worker")),
        }
    )
    if detail["facts"]:
        click.echo()
        print_fields(detail["facts"])
    _print_slots(detail["slots"])


def _worker(worker: Mapping[str, Any] | None) -> str:
    if worker is None:
        return ""
    pid, restarts = worker["pid"], worker["restarts"]
    where = "is down" if pid is None else f"pid {pid}, {worker['resident'] >> 20} MiB"
    return f"{where}, started again {restarts} times" if restarts else where


def _print_slots(slots: list[dict[str, Any]]) -> None:
    if slots:
        click.echo()
        keys = [key for key in slots[0] if not isinstance(slots[0][key], dict)]
        print_table([key.upper() for key in keys], [[shown(s.get(k)) for k in keys] for s in slots])


@plugins.command("reset", examples="agentctl plugins reset cuda")
@click.argument("name")
def reset_plugin(name: str) -> None:
    """Lift a plugin's quarantine and start its worker process anew.

    The plugin is opened with the configuration that it had; kernels go on, and keep their devices.
    """
    from agent_core.cli.connection import ask
    from agent_core.cli.output import plain
    from agent_core.contracts.errors import PluginUnavailable

    row = plain(ask(lambda agent: agent.reset_plugin(name)))
    if row["state"] != "ready":
        raise PluginUnavailable(f"{row['kind']} {row['name']!r} is {row['state']}: {row['reason']}")
    if current().json:
        print_json(row)
    else:
        click.echo(f"{row['kind']} {row['name']} is {row['state']}")


@plugins.command("why", examples="agentctl plugins why rocm")
@click.argument("name")
def why_plugin(name: str) -> None:
    """Explain how one plugin came to its state: the trail, the traceback and the remedy."""
    detail = _detail(name)
    if current().json:
        print_json(detail)
        return
    from agent_core.host.why import explain

    click.echo(shown_lines(explain(detail)), nl=False)


def _detail(name: str) -> dict[str, Any]:
    """Ask the agent; where none runs, say what one would decide."""
    from agent_core.contracts.errors import AgentUnreachable

    try:
        return _live_detail(name)
    except AgentUnreachable:
        if current().agent is not None:
            raise
    if not current().json:
        click.echo("the agent does not run; this is what it would decide", err=True)
    return _installed_detail(name)


def _live_detail(name: str) -> dict[str, Any]:
    from agent_core.cli.connection import ask
    from agent_core.cli.output import plain

    return plain(ask(lambda agent: agent.get_plugin(name)))


def _installed_detail(name: str) -> dict[str, Any]:
    from agent_core.config.quick import glance
    from agent_core.host.candidates import scan
    from agent_core.host.policy import decide
    from agent_core.host.report import find, records_of

    plan = decide(scan(), glance(current().config).selection)
    return find(records_of(plan), name).detail()


@plugins.command(
    "command",
    examples="""
        agentctl plugins command
        agentctl plugins command list-faults
        agentctl plugins command add-fault step=create action=fail 'kernel=k*'
        agentctl plugins command exit-container container=KERNEL oom=true
    """,
)
@click.argument("name", required=False)
@click.argument("assignments", nargs=-1, metavar="[KEY=VALUE]...")
def command(name: str | None, *, assignments: tuple[str, ...]) -> None:
    """Call a command of the backend's own, or without a name list them.

    A value is TOML where it can be, and text where it cannot.
    """
    from agent_core.cli.connection import ask
    from agent_core.cli.options import assignment
    from agent_core.cli.serve import value_of

    if name is None:
        rows = [plain(row) for row in ask(lambda agent: agent.list_commands())]
        print_rows(rows, {"COMMAND": "name", "WHAT IT DOES": "summary"}, empty=_NO_COMMAND)
        return
    pairs = (assignment(text, "a parameter") for text in assignments)
    params = {key: value_of(value) for key, value in pairs}
    print_json(ask(lambda agent: agent.call_backend(name, params)))


_NO_COMMAND = "the backend has no command of its own"
