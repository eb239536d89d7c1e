"""How an agent is addressed: a unix socket's path, or a host and a port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import InvalidArgument

_TCP: Final = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of an agent's unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An agent's host and port; an IPv6 host keeps its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{self.host}:{self.port}"


def parse_address(text: str) -> UnixAddress | TcpAddress:
    """Read ``unix:///path``, ``ipc:///path``, a bare path or ``tcp://host:port``.

    Raises:
        InvalidArgument: when it is none of these.
    """
    if match := _TCP.fullmatch(text):
        port = int(match["port"])
        if 0 < port < 1 << 16:
            return TcpAddress(match["host"], port)
    elif text.startswith(("unix://", "ipc://")):
        path = text.partition("://")[2]
        if path.startswith("/"):
            return UnixAddress(Path(path))
    elif text and "://" not in text:
        return UnixAddress(Path(text).absolute())
    raise InvalidArgument(
        f"{text!r} is not the address of an agent",
        hint="Write unix:///path/to/agent.sock, a path, or tcp://host:port.",
        details={"address": text},
    )
