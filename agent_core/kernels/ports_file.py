"""The ports file: where the kernels' services are reached, for an app proxy that reads files.

It is one JSON object: ``version`` (1), ``agent``, and ``ports``, a list of objects in the order of
their ports: ``kernel_id``, ``session_id``, ``service``, ``protocol``, ``host``, ``port``,
``container_port`` and ``tls``. It is replaced as a whole, so that a reader never sees half of it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from agent_core.contracts.backend import PublishedPort
from agent_core.kernels.tls.fronts import Front

log = structlog.get_logger(__name__)

VERSION: Final = 1
"""The version of the file's form."""

PAUSE: Final = 1.0
"""Seconds between two writings: a change alone is written at once, a storm of them once."""


class PortsFile:
    """Keeps a file of all that is published.

    A kernel that comes or goes changes its own entries in memory; the file is written apart from
    that, for however many of them.

    Args:
        path: The file.
        agent_id: The agent that writes it.
        host: Says where callers reach the ports.
    """

    def __init__(self, path: Path, agent_id: str, host: Callable[[], str]) -> None:
        self._path = path
        self._agent_id = agent_id
        self._host = host
        self._entries: dict[int, dict[str, Any]] = {}
        self._failure = ""
        self._changed = asyncio.Event()
        self._changed.set()  # what an earlier agent wrote may be about kernels that are gone

    def publish(
        self,
        kernel_id: str,
        session_id: str,
        ports: Sequence[PublishedPort],
        fronts: Sequence[Front],
    ) -> None:
        """Add what a kernel publishes."""
        in_front = {front.leads_to: front.port for front in fronts}
        for port in ports:
            reached = in_front.get(port.host_port, port.host_port)
            self._entries[reached] = {
                "kernel_id": kernel_id,
                "session_id": session_id,
                "service": port.name,
                "protocol": port.protocol,
                "port": reached,
                "container_port": port.container_port,
                "tls": port.host_port in in_front,
            }
            self._changed.set()

    def withdraw(self, kernel_id: str, port: int) -> None:
        """Remove a port that a kernel has given back; succeeds when it is not there."""
        entry = self._entries.get(port)
        if entry is not None and entry["kernel_id"] == kernel_id:
            del self._entries[port]
            self._changed.set()

    def touch(self) -> None:
        """Have the file written again: the host may be another."""
        self._changed.set()

    async def follow(self) -> None:
        """Write the file whenever something has changed, for ever."""
        while True:
            await self._changed.wait()
            await self.write()
            await asyncio.sleep(PAUSE)

    async def write(self) -> None:
        """Write what has changed since; what fails is logged, and tried again later."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        content = {"version": VERSION, "agent": self._agent_id, "ports": self._listed()}
        try:
            await asyncio.to_thread(_replace, self._path, content)
        except OSError as exc:
            self._changed.set()
            if str(exc) != self._failure:
                log.warning("the ports file cannot be written", error=str(exc))
            self._failure = str(exc)
        else:
            self._failure = ""

    def _listed(self) -> list[dict[str, Any]]:
        host = self._host()
        return [{**self._entries[port], "host": host} for port in sorted(self._entries)]


def _replace(path: Path, content: dict[str, Any]) -> None:
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    # An app proxy may be another user's; there is nothing secret in it.
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    beside.replace(path)
