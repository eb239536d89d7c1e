"""The door of a link: the socket that a kernel's code can reach too, with few in at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import InvalidConfig

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Talks with one peer to its end."""

PEERS: Final = 8
"""Connections of one kernel at a time: descriptors of the agent that its code can take."""

_FOR_ALL: Final = 0o666
_BACKLOG: Final = 16
_PAUSE: Final = 0.1
_NO_DESCRIPTOR: Final = 1.0
_READ_LIMIT: Final = 1 << 16
_SOCKET_PATH_BOUND: Final = 107


class Door:
    """Accepts a bounded number of connections, and so many a second.

    A place stays empty for a moment when its peer has gone, so that a flood of connections costs
    the agent next to nothing: it waits in the backlog, and only this kernel's runner with it.

    Args:
        path: The socket.
        converse: Called with each connection.
    """

    def __init__(self, path: Path, converse: Converse) -> None:
        self._path = path
        self._converse = converse
        self._listener: socket.socket | None = None
        self._peers: dict[asyncio.Task[None], socket.socket] = {}

    def open(self) -> None:
        """Listen; a socket left by an earlier agent is replaced.

        Raises:
            InvalidConfig: when the path is longer than a socket's path can be.
            OSError: when something else is in the way.
        """
        if len(os.fsencode(self._path)) > _SOCKET_PATH_BOUND:
            raise InvalidConfig(
                f"the socket path {self._path} is longer than {_SOCKET_PATH_BOUND} bytes",
                hint="Set [agent] ipc-base-path to a shorter directory.",
            )
        self._path.unlink(missing_ok=True)
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(self._path))
        # Its directory lets in nobody but the kernel's user, who may be another than the agent's.
        self._path.chmod(_FOR_ALL)
        listener.listen(_BACKLOG)
        self._attend()

    async def close(self) -> None:
        """Stop listening at once, and drop every connection."""
        self._look_away()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        tasks = [*self._peers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _attend(self) -> None:
        if self._listener is not None and len(self._peers) < PEERS:
            asyncio.get_running_loop().add_reader(self._listener, self._admit)

    def _look_away(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)

    def _admit(self) -> None:
        """Let one in; whoever else knocks has the next turn, if there is a place then."""
        if self._listener is None:
            return
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # the agent has no descriptor left; whoever knocks goes on waiting
            self._look_away()
            asyncio.get_running_loop().call_later(_NO_DESCRIPTOR, self._attend)
            return
        task = asyncio.ensure_future(self._serve(peer))
        self._peers[task] = peer
        task.add_done_callback(self._let_out)
        if len(self._peers) >= PEERS:
            self._look_away()

    def _let_out(self, task: asyncio.Task[None]) -> None:
        self._peers.pop(task).close()  # also that of a task which was cancelled before it began
        self._attend()

    async def _serve(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        reader, writer = await _streams(peer)
        try:
            await self._converse(reader, writer)
        finally:
            # A peer that does not read would keep a connection that is closed politely.
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await asyncio.sleep(_PAUSE)


async def _streams(peer: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, peer)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
