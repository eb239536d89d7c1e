"""The one client of the engine: every request has a deadline, and every answer is read or closed.

Streams are read through aiodocker's own request and not its streaming helpers: those keep the
connection when their reader is cancelled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_core.contracts.errors import PluginError, PluginTimeout, PluginUnavailable

if TYPE_CHECKING:
    from aiodocker import Docker
    from aiohttp import ClientResponse, ClientSession

_UNREACHABLE: Final = 900
"""What aiodocker gives as the status when there is no connection."""

_LONGEST_LINE: Final = 1 << 20
_BUFFER: Final = 1 << 20
"""Bytes of one answer that may wait to be read."""

_CONNECT: Final = 5.0


class EngineError(PluginError):
    """Raised when the engine refuses a request; `status` is HTTP's, or 0 within a stream."""

    def __init__(self, status: int, message: str, stage: str) -> None:
        super().__init__(f"the Docker engine: {message}", plugin="docker", stage=stage)
        self.status = status
        self.said = message


class Engine:
    """A Docker engine behind its unix socket.

    Args:
        socket: The path of the socket.
        deadline: Seconds that an ordinary request may take.
    """

    def __init__(self, socket: str, deadline: float = 30.0) -> None:
        self.socket = socket
        self.deadline = deadline
        self._client: Docker | None = None
        self._session: ClientSession | None = None

    async def open(self) -> None:
        """Make the client; the first request connects.

        The number of connections is not bounded: each log, event stream and wait holds one, and a
        bound would let those that wait block all others.
        """
        from aiodocker import Docker
        from aiohttp import ClientSession, ClientTimeout, UnixConnector

        timeout = ClientTimeout(total=None, sock_connect=_CONNECT)
        connector = UnixConnector(self.socket, limit=0)
        # Archives would be compressed otherwise, at a tenth of the speed, and over a socket.
        plain = {"Accept-Encoding": "identity"}
        self._session = ClientSession(
            connector=connector, timeout=timeout, headers=plain, read_bufsize=_BUFFER
        )
        # With another address aiodocker would not use the session that it is given.
        self._client = Docker(
            "unix://localhost", connector=connector, session=self._session, timeout=timeout
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
        if self._session is not None:
            await self._session.close()
        self._client = self._session = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """Send a request and return the JSON of its answer, or None when it has none.

        Raises:
            EngineError: when the engine refuses it.
            PluginUnavailable: when there is no connection.
            PluginTimeout: when the deadline passed.
        """
        bound = self.deadline if seconds is None else seconds
        try:
            async with asyncio.timeout(bound):
                async with self.answer(method, path, params, body, headers) as response:
                    return _parsed(await response.read())
        except TimeoutError as exc:
            raise self._late(method, path, bound) from exc

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ClientResponse]:
        """Send a request and yield the answer with its body unread; it is closed in any case.

        A body of JSON is plain data; bytes and asynchronous iterators of bytes go as they are.
        """
        if self._client is None:
            raise PluginUnavailable(
                "the Docker backend is not connected", plugin="docker", stage=path
            )
        from aiodocker import DockerError
        from aiohttp import ClientError

        plain = isinstance(body, Mapping | list)
        data = json.dumps(body) if plain else body
        try:
            request = self._client._query(  # noqa: SLF001 - see the module's first lines
                path, method, params=_params(params), data=data, headers=headers
            )
            async with request as response:
                try:
                    yield response
                finally:
                    # What was not read to its end may never end: the connection is not reused.
                    response.release() if response.content.at_eof() else response.close()
        except DockerError as exc:
            raise self._error(exc.status, exc.message, f"{method} {path}") from exc
        except (ClientError, OSError) as exc:
            if isinstance(exc, TimeoutError):
                raise
            raise self._gone(f"{method} {path}", exc) from exc

    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Send a request and yield each line of JSON of its answer.

        Args:
            method: HTTP's.
            path: Below the version.
            params: Of the query.
            body: As that of `answer`.
            headers: Further ones.
            patience: Seconds of silence that are borne; None for any silence once it was answered.

        Raises:
            PluginTimeout: when nothing came for so long.
        """
        began: float | None = self.deadline if patience is None else patience
        try:
            async with asyncio.timeout(began) as silence:
                async with self.answer(method, path, params, body, headers) as response:
                    silence.reschedule(_from_now(patience))
                    async for line in _lines(response):
                        # Whoever reads slowly is not the engine's silence.
                        silence.reschedule(None)
                        yield line
                        silence.reschedule(_from_now(patience))
        except TimeoutError as exc:
            raise self._late(method, path, patience or self.deadline) from exc

    def _error(self, status: int, message: str, stage: str) -> PluginError:
        if status == _UNREACHABLE:
            return self._gone(stage, message)
        return EngineError(status, message.strip() or f"status {status} without a word", stage)

    def _gone(self, stage: str, why: object) -> PluginUnavailable:
        there = "answers no more" if Path(self.socket).exists() else "is not there"
        return PluginUnavailable(
            f"the Docker engine at {self.socket} {there}: {why}",
            plugin="docker",
            stage=stage,
            hint="Start the engine; what runs in it is found again once it answers.",
        )

    def _late(self, method: str, path: str, seconds: float) -> PluginTimeout:
        return PluginTimeout(
            f"the Docker engine at {self.socket} has not answered {method} /{path} in"
            f" {seconds:g} s",
            plugin="docker",
            stage=f"{method} {path}",
        )


def _from_now(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _params(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Spell the parameters as the engine reads them: filters are JSON."""
    if params is None:
        return None
    return {key: _param(value) for key, value in params.items() if value is not None}


def _param(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _parsed(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


async def _lines(response: ClientResponse) -> AsyncIterator[Mapping[str, Any]]:
    """Split a stream of JSON objects, one a line, as the engine sends progress and events."""
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise EngineError(0, f"sent a line longer than {_LONGEST_LINE} bytes", "stream")
        for line in filter(None, map(bytes.strip, lines)):
            yield _object(line)
    if rest.strip():
        yield _object(rest)


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(line)
    except ValueError as exc:
        raise EngineError(0, f"sent {line[:200]!r}, which is no JSON", "stream") from exc
    return said if isinstance(said, Mapping) else {}
