"""About agentctl itself: its version, the shapes of its output, its completion."""

from __future__ import annotations

import click

from agent_core.cli.options import AgentCommand, current
from agent_core.cli.output import print_json


@click.command(cls=AgentCommand, examples="agentctl version --json")
def version() -> None:
    """Print the version of agent-core and of its contracts."""
    import sys

    from agent_core import __version__
    from agent_core.contracts.versions import CONTRACTS, RPC_PROTOCOL

    if current().json:
        contracts = {kind: list(versions) for kind, versions in CONTRACTS.items()}
        python = ".".join(map(str, sys.version_info[:3]))
        shape = {"version": __version__, "protocol": RPC_PROTOCOL, "contracts": contracts}
        print_json({**shape, "python": python})
    else:
        click.echo(f"agentctl {__version__}")


@click.command(cls=AgentCommand, examples="agentctl schema\nagentctl schema kernels show")
@click.argument("words", metavar="[COMMAND...]", nargs=-1)
def schema(words: tuple[str, ...]) -> None:
    """Print the JSON schema of a command's --json output, or list the commands that have one."""
    from agent_core.cli import shapes

    command = " ".join(words)
    if not command:
        if current().json:
            print_json(shapes.commands())
        else:
            click.echo("\n".join(shapes.commands()))
    elif command in shapes.commands():
        print_json(shapes.schema_of(command))
    else:
        raise click.UsageError(f"no command {command!r} has a shape; see `agentctl schema`")


@click.command(
    cls=AgentCommand,
    examples="""
        agentctl completion bash > ~/.local/share/bash-completion/completions/agentctl
        agentctl completion zsh > ~/.zfunc/_agentctl
        agentctl completion fish > ~/.config/fish/completions/agentctl.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete agentctl's commands and options."""
    from click.shell_completion import get_completion_class

    from agent_core.cli.main import agentctl

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(agentctl, {}, "agentctl", "_AGENTCTL_COMPLETE").source())
