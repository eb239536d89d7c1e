"""Running the agent."""

from __future__ import annotations

import click

from agent_core.cli.options import AgentCommand, assignment, current


@click.command(
    cls=AgentCommand,
    examples="""
        agentctl serve
        agentctl serve -f agent.toml --debug
        agentctl serve --scratch-root /data/scratches --log-level debug
        agentctl serve --set agent.backend=process --set 'plugins.allow=["mock"]'
    """,
)
@click.option("--debug", is_flag=True, help="Log everything that the agent does.")
@click.option("--scratch-root", metavar="DIR", help="Where scratch storage is made.")
@click.option("--log-level", metavar="LEVEL", help="The least severe messages that are logged.")
@click.option("--etcd-addr", metavar="ADDRESS", help="Where etcd is reached.")
@click.option("--namespace", metavar="NAME", help="The part of etcd that this cluster has.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one key.")
def serve(*, debug: bool, assignments: tuple[str, ...], **named: str | None) -> None:
    """Run the agent of this node until it is interrupted; kernels go on running.

    SIGHUP lets it read its configuration again.
    """
    import gc
    import os

    # What is imported now lives as long as the process: collecting among it is time lost.
    gc.disable()
    # Looking for plugins of the validation library would read every installed distribution.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from agent_core import logs
    from agent_core.config.loader import load

    file, values = current().config, overrides(assignments, debug=debug, **named)
    loaded = load(file, values)
    config = loaded.config
    logs.configure(
        config.logging, directory=config.paths.state / "logs", debug=config.debug.enabled
    )
    import asyncio

    from agent_core import agent
    from agent_core.loops import factory_of

    loop_factory = factory_of(config.agent.event_loop)
    # The working directory stays: a file that was found there is found there again.
    gc.freeze()
    tcp_is_chosen = any(key.startswith("agent.rpc-listen-addr") for key in loaded.origins)
    running = agent.serve(
        config, loaded.warnings, tcp_is_chosen=tcp_is_chosen, load=lambda: load(file, values)
    )
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(running)


NAMED = {
    "scratch_root": "container.scratch-root",
    "log_level": "logging.level",
    "etcd_addr": "etcd.addr",
    "namespace": "etcd.namespace",
}
"""The options that set one key each."""


def overrides(
    assignments: tuple[str, ...], *, debug: bool = False, **named: str | None
) -> dict[str, object]:
    """Read the options that set keys.

    The value of ``--set KEY=VALUE`` is TOML where it can be, and text where it cannot.
    """
    values: dict[str, object] = {"debug.enabled": True} if debug else {}
    values |= {NAMED[name]: value for name, value in named.items() if value is not None}
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
