"""Reading what a container printed.

A stream of frames: the stream's number, three zeros, the length as 4 bytes in network order, and
that many bytes (`GET /containers/{id}/attach` of the Engine API describes the format).
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from agent_backend_docker.engine import Engine, EngineError
from agent_core.contracts.errors import NotFound

_HEADER: Final = struct.Struct(">BxxxI")
_GONE: Final = 404


class Unframing:
    """Takes frames apart as their bytes come."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the output in some bytes of the stream."""
        view = memoryview(data)
        while view:
            if not self._left:
                view = self._read_head(view)
                continue
            yield bytes(view[: self._left])
            taken = min(self._left, len(view))
            self._left -= taken
            view = view[taken:]

    def _read_head(self, view: memoryview) -> memoryview:
        missing = _HEADER.size - len(self._head)
        self._head += bytes(view[:missing])
        if len(self._head) == _HEADER.size:
            _, self._left = _HEADER.unpack(self._head)
            self._head = b""
        return view[missing:]


async def read_logs(engine: Engine, name: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
    """Yield both streams of a container as they were printed.

    Raises:
        NotFound: when there is no such container.
    """
    params = {"stdout": True, "stderr": True, "follow": follow}
    frames = Unframing()
    try:
        async with engine.answer("GET", f"containers/{name}/logs", params) as response:
            async for data in response.content.iter_any():
                for chunk in frames.feed(data):
                    yield chunk
    except EngineError as exc:
        if exc.status == _GONE:
            raise NotFound(f"there is no container {name!r}") from exc
        raise
