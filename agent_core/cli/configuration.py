"""Looking at the configuration: what is in effect, from where, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
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


_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to a file instead of the standard output.",
)
_overwrite = click.option("--overwrite", is_flag=True, help="Replace the file where it exists.")


@config.command("show", examples="agentctl config show --origin\nagentctl config show --json")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one key.")
@click.option("--live", is_flag=True, help="Ask the running agent what it uses.")
@click.option("--origin", is_flag=True, help="Say in which line of the file a key is set.")
def show(*, assignments: tuple[str, ...], live: bool, origin: bool) -> None:
    """Show every key, its value and who set it."""
    values, origins = _live() if live else _loaded(assignments, exactly=origin)
    if current().json:
        print_json(_with_origins(values, origins) if origin else values)
        return
    rows = [
        [key, json.dumps(value), shown(origins.get(key, "default"))] for key, value in _flat(values)
    ]
    print_table(["KEY", "VALUE", "FROM"], rows)


def _live() -> tuple[dict[str, Any], Mapping[str, str]]:
    from agent_core.cli.connection import ask

    values = ask(lambda agent: agent.get_config())
    return values, dict.fromkeys((key for key, _ in _flat(values)), "the agent")


def _loaded(
    assignments: tuple[str, ...], *, exactly: bool
) -> tuple[dict[str, Any], Mapping[str, str]]:
    loaded = _load(assignments)
    for warning in loaded.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    values = _laid_over(loaded.config.rendered(), loaded.later)
    if not exactly:
        return values, loaded.origins
    places = {key: _exact(loaded, key) for key in loaded.origins}
    return values, places


def _laid_over(values: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Show what was set of keys that take effect later among those that are in effect."""
    whole = dict(values)
    for key, value in later.items():
        below = whole.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        whole[key] = _laid_over(below, value) if both and below is not None else value
    return whole


def _exact(loaded: Loaded, key: str) -> str:
    line = loaded.line(key)
    return loaded.origins[key] if line is None else f"{loaded.origins[key]}:{line}"


def _with_origins(values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    flat = _flat(values)
    return {key: {"value": value, "from": origins.get(key, "default")} for key, value in flat}


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


@config.command("sample", examples="agentctl config sample\nagentctl config sample -o agent.toml")
@_output
@_overwrite
def sample(*, output: Path | None, overwrite: bool) -> None:
    """Print a complete agent.toml: each key with its meaning and default, in comments."""
    from agent_core.config.sample import sample as written

    _write(written(), output, overwrite=overwrite)


@config.command(
    "schema", examples="agentctl config schema\nagentctl config schema -o agent.schema.json"
)
@_output
@_overwrite
def schema(*, output: Path | None, overwrite: bool) -> None:
    """Print the JSON schema of agent.toml, by which editors complete and check it."""
    from agent_core.config.schema import schema as built

    _write(json.dumps(built(), indent=2) + "\n", output, overwrite=overwrite)


def _write(text: str, output: Path | None, *, overwrite: bool) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise click.UsageError(f"{output} exists; --overwrite replaces it") from exc
    except OSError as exc:
        raise click.UsageError(f"cannot write {output}: {exc.strerror}") from exc


@config.command("reload", examples="agentctl config reload")
def reload() -> None:
    """Let the running agent read its configuration again; kernels go on running."""
    from agent_core.cli.connection import ask

    done = ask(lambda agent: agent.reload_config())
    if current().json:
        print_json(done.model_dump())
        return
    for warning in done.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    click.echo(f"taken over: {', '.join(done.applied) or 'nothing has changed'}")
    if done.needs_restart:
        click.echo(f"needs a restart: {', '.join(done.needs_restart)}")


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
