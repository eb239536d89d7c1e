"""The entry of `agentctl`: the table of commands, and how errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from agent_core.cli.options import AgentGroup, Options
from agent_core.contracts.errors import AgentError, AgentUnreachable

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

COMMANDS: Final = {
    "serve": "agent_core.cli.serve:serve",
    "status": "agent_core.cli.node:status",
    "plugins": "agent_core.cli.plugins:plugins",
    "devices": "agent_core.cli.node:devices",
    "slots": "agent_core.cli.node:slots",
    "images": "agent_core.cli.images:images",
    "kernels": "agent_core.cli.kernels:kernels",
    "sessions": "agent_core.cli.sessions:sessions",
    "explain": "agent_core.cli.explaining:explain",
    "exec": "agent_core.cli.execution:execute",
    "cp": "agent_core.cli.files:copy",
    "services": "agent_core.cli.services:services",
    "events": "agent_core.cli.events:events",
    "reconcile": "agent_core.cli.reconciling:reconcile",
    "leaks": "agent_core.cli.reconciling:leaks",
    "doctor": "agent_core.cli.doctor:doctor",
    "runner": "agent_core.cli.runner:runner",
    "ledger": "agent_core.cli.ledger:ledger",
    "keys": "agent_core.cli.keys:keys",
    "config": "agent_core.cli.configuration:config",
    "version": "agent_core.cli.about:version",
    "schema": "agent_core.cli.about:schema",
    "completion": "agent_core.cli.about:completion",
}
"""Every command, and where it lies; a module is imported when its command is called."""


def _print_version(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value and not context.resilient_parsing:
        from agent_core import __version__

        click.echo(f"agentctl {__version__}")
        context.exit()


@click.group(
    name="agentctl",
    cls=AgentGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples="""
        agentctl serve
        agentctl plugins list
        agentctl kernels create --image python --slot cpu=1 --slot mem=256m
        agentctl exec KERNEL -c 'print(6 * 7)'
        agentctl kernels destroy KERNEL
    """,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def agentctl() -> None:
    """Run the agent of this node, look at it, and run code in its kernels.

    Exit codes: 0 done; 1 refused or failed; 2 usage; 3 agent not reachable; 130 interrupted.
    Ids may be shortened to a unique prefix.
    """


def main() -> None:
    """Run `agentctl` with the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `agentctl` with these arguments and return its exit code."""
    _forgive_encodings()
    options = Options()
    try:
        code = _invoke(arguments, options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter's own flush must not complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _invoke(arguments: Sequence[str], options: Options) -> int:
    try:
        result: Any = agentctl.main(
            list(arguments), prog_name="agentctl", standalone_mode=False, obj=options
        )
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return USAGE
    except click.ClickException as exc:
        return _report_usage(exc, as_json=options.json or "--json" in arguments)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except AgentError as exc:
        return report(exc, as_json=options.json)
    return result if isinstance(result, int) else DONE


def report(error: AgentError, *, as_json: bool) -> int:
    """Print an error, and return the exit code that it means."""
    from agent_core.cli.output import print_error

    print_error(error.to_dict(), as_json=as_json)
    return UNREACHABLE if isinstance(error, AgentUnreachable) else FAILED


def _report_usage(exc: click.ClickException, *, as_json: bool) -> int:
    if as_json:
        from agent_core.cli.output import print_error

        fields = {"code": "usage", "message": exc.format_message(), "hint": _help_hint(exc)}
        print_error({**fields, "retryable": False, "details": {}}, as_json=True)
    else:
        exc.show()
    return exc.exit_code


def _help_hint(exc: click.ClickException) -> str:
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    return f"See `{context.command_path if context else 'agentctl'} --help`."


def _forgive_encodings() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
