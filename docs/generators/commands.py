"""The reference of agentctl, from its own tree of commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from agent_core.cli.main import agentctl
from generators.markdown import cell, code, inline, table

_COMMON = ("config", "agent", "json")
_HEAD = """
## Options of every command

These may stand before or after the command's name.

"""


def page() -> str:
    """Write every command with its arguments, options and examples."""
    context = click.Context(agentctl, info_name="agentctl")
    common = [p for p in agentctl.params if p.name in _COMMON]
    head = f"# Command line\n\n{_help(agentctl)}\n{_HEAD}{_options(common)}"
    return head + "".join(_commands(agentctl, context))


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield _command(command, inner)


def _command(command: click.Command, context: click.Context) -> str:
    path = context.command_path
    anchor = path.removeprefix("agentctl ").replace(" ", "-")
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    own = [p for p in command.params if p.name not in _COMMON]
    text = f"\n## {path} {{ #{anchor} }}\n\n{_help(command)}\n\n    {usage}\n"
    options = _options([p for p in own if isinstance(p, click.Option)])
    return text + (f"\n{options}" if options else "") + _examples(command)


def _help(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or "").replace("\f", "").replace("\b\n", "")
    return inline(text)


def _options(options: list[click.Parameter]) -> str:
    rows = [[_names(o), cell(inline(o.help or "") + _details(o))] for o in options
            if isinstance(o, click.Option) and not o.hidden]  # fmt: skip
    return table(["option", "meaning"], rows) if rows else ""


def _names(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name or ''}"
    if not option.metavar and isinstance(option.type, click.Choice):
        value = f" {'|'.join(map(str, option.type.choices))}"
    elif not option.metavar:
        value = value.upper()
    names = [*option.opts, *option.secondary_opts]
    return ", ".join(code(name + value) for name in names)


def _details(option: click.Option) -> str:
    found = []
    if option.required:
        found.append("required")
    if option.multiple:
        found.append("may be repeated")
    if option.envvar:
        found.append(f"environment variable `{option.envvar}`")
    return f" ({', '.join(found)})" if found else ""


def _examples(command: click.Command) -> str:
    lines = [line.strip() for line in getattr(command, "examples", "").splitlines()]
    shown = "".join(f"    {line}\n" for line in lines if line)
    return f"\nExamples:\n\n{shown}" if shown else ""
