"""The event loop: asyncio's own, or uvloop where ``[agent] event-loop`` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_core.contracts.errors import InvalidConfig


def factory_of(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop; None for asyncio's own.

    Raises:
        InvalidConfig: when uvloop is asked for and not installed.
    """
    if name != "uvloop":
        return None
    try:
        import uvloop
    except ImportError as exc:
        raise InvalidConfig(
            '[agent] event-loop = "uvloop": uvloop is not installed',
            hint="Install it with: pip install 'agent-core[uvloop]'; or leave event-loop out.",
        ) from exc
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
