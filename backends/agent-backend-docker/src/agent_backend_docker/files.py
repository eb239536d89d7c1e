"""Files of containers: archives in and out, as they are, and what a directory holds."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final

from agent_backend_docker.containers import Containers
from agent_backend_docker.engine import Engine, EngineError
from agent_backend_docker.listing import list_directory
from agent_backend_docker.observation import state_of
from agent_core.contracts.backend import ContainerState, FileEntry
from agent_core.contracts.errors import (
    InvalidArgument,
    KernelFailed,
    NotFound,
    PluginTimeout,
    WrongState,
)

_GONE: Final = 404
_MALFORMED: Final = 400
_SILENCE: Final = 60.0


class Files:
    """Copies into and out of containers, running or not."""

    def __init__(self, engine: Engine, containers: Containers) -> None:
        self._engine = engine
        self._containers = containers

    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream in a directory; the engine keeps it within the container.

        Raises:
            NotFound: when there is no such container or directory.
            WrongState: when the place is read-only.
            KernelFailed: when it cannot be unpacked: no space, no tar.
        """
        place = await self._place(name, path)
        headers = {"Content-Type": "application/x-tar"}
        params = {"path": place, "noOverwriteDirNonDir": True}
        watched = _Watched(tar)
        try:
            async with watched.silence(_SILENCE):
                request = self._engine.answer(
                    "PUT", f"containers/{name}/archive", params, watched.chunks(), headers
                )
                async with request as response:
                    await response.read()
        except EngineError as exc:
            raise _refused(name, path, exc) from exc
        except TimeoutError as exc:
            raise PluginTimeout(
                f"{path} of container {name}: nothing was taken for {_SILENCE:g} s",
                plugin="docker",
                stage="copy_in",
            ) from exc
        if watched.failure is not None:
            raise watched.failure

    async def copy_out(self, name: str, path: str) -> AsyncGenerator[bytes, None]:
        """Yield a file or a directory as a tar stream.

        Raises:
            NotFound: when there is no such container or file.
        """
        params = {"path": await self._place(name, path)}
        try:
            async with self._engine.answer("GET", f"containers/{name}/archive", params) as response:
                async for chunk in response.content.iter_any():
                    yield chunk
        except EngineError as exc:
            raise _refused(name, path, exc) from exc

    async def list(self, name: str, path: str) -> Sequence[FileEntry]:
        """List a directory of a running container.

        Raises:
            NotFound: when there is no such container or directory.
            WrongState: when it does not run.
        """
        shown = await self._containers.shown(name)
        if state_of(shown.get("State", {})) is not ContainerState.RUNNING:
            raise WrongState(f"container {name} does not run, so its files cannot be listed")
        place = _absolute(shown, path)
        return await asyncio.to_thread(list_directory, int(shown["State"]["Pid"]), place)

    async def _place(self, name: str, path: str) -> str:
        return _absolute(await self._containers.shown(name), path)


class _Watched:
    """Hands a stream on to the engine: remembers why it failed, and how long ago it moved."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._timer: asyncio.Timeout | None = None
        self._seconds = 0.0
        self.failure: Exception | None = None

    def silence(self, seconds: float) -> asyncio.Timeout:
        """Bound the time in which the engine takes nothing."""
        self._seconds = seconds
        self._timer = asyncio.timeout(seconds)
        return self._timer

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what the source yields."""
        try:
            async for chunk in self._source:
                self._moved()
                yield chunk
                self._moved()
        except Exception as exc:
            # aiohttp would tell only that the connection was lost.
            self.failure = exc
            raise

    def _moved(self) -> None:
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time() + self._seconds)


def _absolute(shown: Mapping[str, Any], path: str) -> str:
    if "\0" in path:
        raise InvalidArgument("a path has no NUL in it")
    start = shown.get("Config", {}).get("WorkingDir") or "/"
    return posixpath.normpath(posixpath.join(start, path))


def _refused(name: str, path: str, exc: EngineError) -> Exception:
    low = exc.said.lower()
    if exc.status == _GONE or "no such file" in low or "could not find" in low:
        return NotFound(f"container {name} has no {path}: {exc.said}")
    if "read-only" in low:
        return WrongState(f"{path} of container {name} is read-only")
    if exc.status == _MALFORMED:
        return InvalidArgument(f"{path} of container {name}: {exc.said}")
    return KernelFailed(f"{path} of container {name}: {exc.said}")
