"""Looking at the configuration: what is in effect, from where, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import print_json, print_table, shown

if TYPE_CHECKING:
    from agent_core.config.faults import Fault
    from agent_core.config.loader import Loaded


@click.group(cls=AgentGroup, examples="agentctl config show\nagentctl config check -f agent.toml")
def config() -> None:
    """The configuration: TOML, over it the environment, over it the command line."""


@config.command("show", examples="agentctl config show --json")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one key.")
@click.option("--live", is_flag=True, help="Ask the running agent what it uses.")
def show(*, assignments: tuple[str, ...], live: bool) -> None:
    """Show every key, its value and who set it."""
    values, origins = _live() if live else _loaded(assignments)
    if current().json:
        print_json(values)
        return
    rows = [
        [key, json.dumps(value), shown(origins.get(key, "default"))] for key, value in _flat(values)
    ]
    print_table(["KEY", "VALUE", "FROM"], rows)


def _live() -> tuple[dict[str, Any], Mapping[str, str]]:
    from agent_core.cli.connection import ask

    values = ask(lambda agent: agent.get_config())
    return values, dict.fromkeys((key for key, _ in _flat(values)), "the agent")


def _loaded(assignments: tuple[str, ...]) -> tuple[dict[str, Any], Mapping[str, str]]:
    loaded = _load(assignments)
    for warning in loaded.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    return loaded.config.rendered(), loaded.origins


def _load(assignments: tuple[str, ...]) -> Loaded:
    from agent_core.cli.serve import overrides
    from agent_core.config.loader import load

    return load(current().config, overrides(assignments))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@config.command("check", examples="agentctl config check -f agent.toml")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one key.")
def check(*, assignments: tuple[str, ...]) -> int:
    """Report every fault with its file and line; the exit code is 1 when there is one."""
    from agent_core.contracts.errors import InvalidConfig

    faults: list[dict[str, Any]] = []
    warnings: list[str] = []
    path = None
    try:
        loaded = _load(assignments)
    except InvalidConfig as exc:
        faults = exc.details["faults"]
    else:
        path = None if loaded.path is None else str(loaded.path)
        found = list(_remarks(loaded))
        faults = [fault._asdict() for severity, fault in found if severity == "error"]
        remarks = [str(fault) for severity, fault in found if severity != "error"]
        warnings = [*loaded.warnings, *remarks]
    if current().json:
        print_json({"ok": not faults, "path": path, "faults": faults, "warnings": warnings})
    else:
        _print_verdict(path, faults, warnings)
    return int(bool(faults))


def _remarks(loaded: Loaded) -> Iterator[tuple[str, Fault]]:
    """Say what the installed plugins make of the configuration; none of them is imported."""
    from agent_core.config.faults import Fault, did_you_mean
    from agent_core.host.candidates import scan
    from agent_core.host.policy import decide

    candidates = scan()
    for notice in decide(candidates, loaded.config.selection).notices:
        key = notice.key.replace("[", "").replace("] ", ".")
        source, line = _place(loaded, key)
        yield notice.severity, Fault(source, line, key, notice.message, notice.hint)
    names = {candidate.name for candidate in candidates}
    for name in loaded.config.plugin:
        if name not in names:
            source, line = _place(loaded, f"plugin.{name}")
            what = "is the table of a plugin that is not installed"
            yield "warning", Fault(source, line, f"plugin.{name}", what, did_you_mean(name, names))


def _place(loaded: Loaded, key: str) -> tuple[str, int | None]:
    """Find who set a key, and where in the file when it was the file."""
    from agent_core.config.lines import key_lines, line_of

    # A table that only holds others has no origin of its own, the first key in it has.
    source = next((o for k, o in loaded.origins.items() if f"{k}.".startswith(f"{key}.")), "")
    if loaded.path is None or source != str(loaded.path):
        return source or "the defaults", None
    return source, line_of(key_lines(loaded.path.read_text("utf-8")), tuple(key.split(".")))


def _print_verdict(path: str | None, faults: list[dict[str, Any]], warnings: list[str]) -> None:
    from agent_core.config.faults import Fault

    for fault in faults:
        click.echo(f"error: {shown(str(Fault(**fault)))}", err=True)
    for warning in warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    if not faults:
        click.echo(f"{path or 'no file, the defaults'}: in order")
