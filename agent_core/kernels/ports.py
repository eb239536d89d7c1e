"""The ports of this node that kernels publish theirs on: given, restored and taken back here."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import structlog

from agent_core import clock
from agent_core.contracts.errors import InvalidConfig, NoFreePort
from agent_core.kernels.rotation import Rotation

log = structlog.get_logger(__name__)

_RESOLVE_DEADLINE: Final = 5.0
_NAMED: Final = 16
"""Ports of strangers that a refusal names."""

_TOO_SMALL: Final = "Ask for fewer ports, or widen [container] port-range."
_ADDRESS_HINT: Final = "Name an address of this node, such as 127.0.0.1, or 0.0.0.0 for all."


class PortPool:
    """The ports of one range on one address.

    Nothing is given that cannot be bound: what another program listens on is passed over. A port
    belongs to its kernel until `release`, which is called once that is durable.

    Args:
        ports: The range.
        host: The address on which they are published.
        cooldown: Seconds before a port that was given back is given again.
        first: The port that is given first; by default the first of the range.
        obstacle: Says why a port of an address cannot be bound; None when it can.
        now: The clock.
    """

    def __init__(
        self,
        ports: range,
        *,
        host: str = "127.0.0.1",
        cooldown: float = 60.0,
        first: int | None = None,
        obstacle: Callable[[str, int], str | None] | None = None,
        now: Callable[[], float] = clock.boottime,
    ) -> None:
        self.host = host
        self._ports = ports
        self._rotation = Rotation(ports, cooldown, first)
        self._obstacle = partial(obstacle or find_obstacle, host)
        self._now = now

    @property
    def held(self) -> Mapping[int, str]:
        """For each port that is held, its kernel."""
        return self._rotation.held

    def check(self, count: int) -> None:
        """Make sure that so many ports can be had, as far as that is known; takes nothing.

        Raises:
            NoFreePort: when they cannot.
        """
        if self._rotation.wait(count, self._now()) != 0:
            raise self._refusal(count)

    def take(self, kernel_id: str, count: int) -> tuple[int, ...]:
        """Give a kernel so many ports, or none at all.

        Raises:
            NoFreePort: when there are not so many.
            InvalidConfig: when no port at all can be bound at the address.
        """
        taken = self._rotation.take(kernel_id, count, self._now(), self._is_usable)
        if taken is None:
            raise self._refusal(count)
        return taken

    def restore(self, kernel_id: str, port: int) -> None:
        """Take a port for the kernel that has had it since before the agent's start.

        Raises:
            ValueError: when another kernel has it; nothing changed.
        """
        self._rotation.restore(kernel_id, port)

    def release(self, kernel_id: str, port: int) -> None:
        """Take a port back; one that is not the kernel's, or is no more, stays as it is."""
        if not self._rotation.release(kernel_id, port, self._now()):
            return
        if port not in self._ports:
            log.info("a port outside of the range is free", port=port, kernel_id=kernel_id)

    def fault(self) -> str | None:
        """Say why no port at all can be bound at the address; None when one can."""
        try:
            self._obstacle(0)
        except InvalidConfig as exc:
            return exc.message
        return None

    def _is_usable(self, port: int) -> bool:
        why = self._obstacle(port)
        if why is not None:
            log.warning("a port is passed over", port=port, host=self.host, because=why)
        return why is None

    def _refusal(self, count: int) -> NoFreePort:
        now, rotation = self._now(), self._rotation
        wait = rotation.wait(count, now)
        held, cooling, foreign = len(rotation.held), rotation.cooling(now), rotation.foreign
        first, last = self._ports[0], self._ports[-1]
        details: dict[str, Any] = {
            "range": [first, last],
            "wanted": count,
            "held": held,
            "cooling": cooling,
            "foreign": [*foreign[:_NAMED]],
            "retry_after": None if wait is None else round(wait, 3),
        }
        what = "no port is free" if count == 1 else f"{count} ports are not free"
        return NoFreePort(
            f"{what} in {first}-{last}: kernels hold {held}, {cooling} rest after their last use, "
            f"other programs listen on {len(foreign)}",
            hint=_TOO_SMALL if count > len(self._ports) else None,
            details=details,
        )


def find_obstacle(host: str, port: int) -> str | None:
    """Say why a program could not listen on a port now; None when it could.

    A connection that is waiting for its last packets is no obstacle, as it is none to servers.

    Raises:
        InvalidConfig: when the address is not one of this node.
    """
    try:
        _bind(host, port)
    except OSError as exc:
        if exc.errno in (errno.EADDRINUSE, errno.EACCES):
            return exc.strerror
        if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        raise InvalidConfig(
            f"[container] bind-host: nothing can listen at {host}: {exc.strerror}",
            hint=_ADDRESS_HINT,
        ) from exc
    return None


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set this too: without it every closing connection would be in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


async def open_pool(
    ports: range, host: str, cooldown: float, inside: Callable[[], str | None] = lambda: None
) -> PortPool:
    """Make the pool of an agent that starts.

    What kernels gave back just before is not remembered: the pool begins at any of its ports, so
    that it is unlikely that one of those is given again at once.

    Args:
        ports: The range.
        host: The address on which they are published.
        cooldown: Seconds before a port that was given back is given again.
        inside: Says at which other address a port must be free too, if at any.

    Raises:
        InvalidConfig: when the host's name is not known.
    """

    def obstacle(host: str, port: int) -> str | None:
        found, other = find_obstacle(host, port), inside()
        return found if found or other is None else find_obstacle(other, port)

    first = ports[secrets.randbelow(len(ports))]
    return PortPool(
        ports, host=await _resolve(host), cooldown=cooldown, first=first, obstacle=obstacle
    )


async def _resolve(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_DEADLINE):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as exc:
        raise InvalidConfig(
            f"[container] bind-host: {host!r} is not known: {str(exc) or 'no answer'}",
            hint=_ADDRESS_HINT,
        ) from exc
    return str(found[0][4][0])
