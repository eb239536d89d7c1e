"""Finding the agent that a command means, and asking it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent_core.cli.options import Options, current
from agent_core.client.client import AgentClient
from agent_core.config.quick import glance
from agent_core.config.units import split_address
from agent_core.wire.keys import ClientKeys, read_client_keys

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
    if not named:
        return AgentClient(f"unix://{glance(options.config).paths.rpc_socket}")
    address = _spelled_out(named)
    keys = _keys(options) if address.startswith("tcp://") else None
    return AgentClient(address, keys=keys)


def _spelled_out(address: str) -> str:
    is_tcp = "://" not in address and split_address(address) is not None
    return f"tcp://{address}" if is_tcp and not os.path.lexists(address) else address


def _keys(options: Options) -> ClientKeys | None:
    """Read the keys that the local agent made, unless it serves without."""
    from agent_core.config.loader import load

    config = load(options.config).config
    return None if config.agent.rpc_insecure else read_client_keys(config.paths.keys)
