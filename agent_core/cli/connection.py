"""Finding the agent that a command means, and asking it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from agent_core.cli.options import Options, current
from agent_core.client.client import AgentClient
from agent_core.config.quick import glance
from agent_core.config.units import split_address
from agent_core.wire.keys import ClientKeys, read_client_key, read_client_keys

T = TypeVar("T")


def ask(work: Callable[[AgentClient], Awaitable[T]]) -> T:
    """Connect to the agent, do the work, and return what it returns.

    Raises:
        AgentUnreachable: when no agent answers.
        AgentError: whatever the agent answers.
    """
    client = client_of(current())

    async def run() -> T:
        async with client as agent:
            return await work(agent)

    return asyncio.run(run())


def client_of(options: Options) -> AgentClient:
    """Make the client for ``--agent``, $AGENT_ADDRESS or the local agent of the configuration."""
    named = options.agent or os.environ.get("AGENT_ADDRESS")
    address = _spelled_out(named) if named else ""
    if address.startswith("tcp://"):
        return AgentClient(address, keys=_keys(options))
    if options.key or options.keys:
        raise click.UsageError("--key and --keys are for an agent at --agent tcp://HOST:PORT")
    return AgentClient(address or f"unix://{glance(options.config).paths.rpc_socket}")


def _spelled_out(address: str) -> str:
    is_tcp = "://" not in address and split_address(address) is not None
    return f"tcp://{address}" if is_tcp and not os.path.lexists(address) else address


def _keys(options: Options) -> ClientKeys | None:
    """Read the keys that were named, or those of the local agent unless it serves without."""
    if options.key and options.keys:
        raise click.UsageError("--key FILE and --keys DIR name two different keys; give one")
    if options.key:
        return read_client_key(options.key)
    if options.keys:
        return read_client_keys(options.keys)
    from agent_core.config.loader import load

    config = load(options.config).config
    return None if config.agent.rpc_insecure else read_client_keys(config.paths.keys)
