"""Running the agent."""

from __future__ import annotations

import click

from agent_core.cli.options import AgentCommand, assignment, current


@click.command(
    cls=AgentCommand,
    examples="""
        agentctl serve
        agentctl serve -f agent.toml --debug
        agentctl serve --set agent.backend=process --set 'plugins.allow=["mock"]'
    """,
)
@click.option("--debug", is_flag=True, help="Log everything that the agent does.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one key.")
def serve(*, debug: bool, assignments: tuple[str, ...]) -> None:
    """Run the agent of this node until it is interrupted; kernels go on running."""
    import gc
    import os

    # What is imported now lives as long as the process: collecting among it is time lost.
    gc.disable()
    # Looking for plugins of the validation library would read every installed distribution.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from agent_core import logs
    from agent_core.config.loader import load

    loaded = load(current().config, overrides(assignments, debug=debug))
    config = loaded.config
    logs.configure(
        config.logging, directory=config.paths.state / "logs", debug=config.debug.enabled
    )
    import asyncio

    from agent_core import agent

    gc.freeze()
    tcp_is_chosen = any(key.startswith("agent.rpc-listen-addr") for key in loaded.origins)
    asyncio.run(agent.serve(config, loaded.warnings, tcp_is_chosen=tcp_is_chosen))


def overrides(assignments: tuple[str, ...], *, debug: bool = False) -> dict[str, object]:
    """Read ``--set KEY=VALUE``: the value is TOML where it can be, and text where it cannot."""
    values: dict[str, object] = {"debug.enabled": True} if debug else {}
    for text in assignments:
        key, value = assignment(text, "--set")
        values[key] = value_of(value)
    return values


def value_of(text: str) -> object:
    """Read a value: TOML where it can be, and text where it cannot."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
