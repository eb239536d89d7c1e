"""The options that every command takes, before or after its name, and the classes that add them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

_SUMMARY = 200
"""Characters of a command's summary; the terminal's width wraps it, nothing cuts it off."""


class Options:
    """What was said about the configuration, the agent and the form of the output."""

    __slots__ = ("agent", "config", "json", "key", "keys")

    def __init__(self) -> None:
        self.config: Path | None = None
        self.agent: str | None = None
        self.key: Path | None = None
        self.keys: Path | None = None
        self.json = False


def current() -> Options:
    """Return the options of the command that is running."""
    return click.get_current_context().find_root().ensure_object(Options)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # Every level has these options: only the levels where they were given have a say.
    if value and parameter.name is not None:
        setattr(context.find_root().ensure_object(Options), parameter.name, value)


def _common() -> list[click.Parameter]:
    return [
        click.Option(
            ["-f", "--config"],
            type=click.Path(path_type=Path),
            callback=_remember,
            expose_value=False,
            metavar="FILE",
            help="The configuration file; by default the first of the search order.",
        ),
        click.Option(
            ["--agent"],
            callback=_remember,
            expose_value=False,
            metavar="ADDRESS",
            help="The agent: unix:///path, a path, or tcp://host:port; else $AGENT_ADDRESS.",
        ),
        click.Option(
            ["--key"],
            type=click.Path(path_type=Path),
            callback=_remember,
            expose_value=False,
            metavar="FILE",
            help="For tcp://: your NAME.secret, with the agent's server.key beside it.",
        ),
        click.Option(
            ["--keys"],
            type=click.Path(path_type=Path),
            callback=_remember,
            expose_value=False,
            metavar="DIR",
            help="For tcp://: the directory of both; by default the local agent's.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            callback=_remember,
            expose_value=False,
            help="Print JSON.",
        ),
    ]


class AgentCommand(click.Command):
    """A command with the common options, and examples at the end of its help.

    Args:
        examples: Command lines, one in each line.
    """

    def __init__(self, *args: Any, examples: str = "", **settings: Any) -> None:
        settings["params"] = [*(settings.get("params") or ()), *_common()]
        super().__init__(*args, **settings)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples as they are typed."""
        _write_examples(self.examples, formatter)


class AgentGroup(click.Group):
    """A group with the common options, whose commands may lie in modules imported on demand.

    Args:
        lazy: For each command, its ``module:attribute``.
        examples: Command lines, one in each line.
    """

    command_class = AgentCommand

    def __init__(
        self, *args: Any, lazy: Mapping[str, str] | None = None, examples: str = "", **settings: Any
    ) -> None:
        settings["params"] = [*(settings.get("params") or ()), *_common()]
        super().__init__(*args, **settings)
        self.lazy = dict(lazy or {})
        self.examples = examples

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of their declaration."""
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command, importing its module when it is the first time."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, _, attribute = self.lazy[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            self.commands[cmd_name] = command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with the whole first sentence of its help."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, c.get_short_help_str(_SUMMARY)) for name, c in found if c and not c.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest a near one."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from agent_core.config.faults import did_you_mean

            suggestion = did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"no such command {name!r}{'; ' + suggestion if suggestion else ''}")
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples as they are typed."""
        _write_examples(self.examples, formatter)


def _write_examples(examples: str, formatter: click.HelpFormatter) -> None:
    lines: Sequence[str] = [line.strip() for line in examples.splitlines() if line.strip()]
    if lines:
        formatter.write_paragraph()
        formatter.write("Examples:\n")
        for line in lines:
            formatter.write(f"  {line}\n")


def assignment(text: str, option: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``; a usage error when it has another form."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
    return key, value
