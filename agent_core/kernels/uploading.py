"""Tar streams that come in pieces, each in a call of its own, with bounded memory in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from agent_core.contracts.errors import AgentError, DeadlineExceeded, InvalidArgument
from agent_core.wire.content import UploadFile, UploadState

PIECES: Final = 4
"""Pieces of one upload that wait in memory."""

AT_ONCE: Final = 64
"""Uploads at a time."""

IDLE: Final = 60.0
"""Seconds that an upload may rest before it is given up."""

Unpack = Callable[[AsyncIterator[bytes]], Awaitable[None]]
"""Takes a tar stream to its end."""


class _Upload:
    """One upload: what is unpacked reads what comes."""

    def __init__(self, unpack: Unpack) -> None:
        self.taken = 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES)
        self.task: asyncio.Future[None] = asyncio.ensure_future(self._run(unpack))

    async def _run(self, unpack: Unpack) -> None:
        await unpack(self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    piece = await self._queue.get()
            except TimeoutError as exc:
                raise DeadlineExceeded(f"nothing more came of an upload for {IDLE:g} s") from exc
            if piece is None:
                return
            yield piece

    async def take(self, data: bytes, *, last: bool) -> None:
        """Take a piece; waits where what came before is not unpacked yet."""
        await self._put(data)
        self.taken += len(data)
        if last:
            await self._put(None)
            await asyncio.shield(self.task)

    async def _put(self, piece: bytes | None) -> None:
        if piece == b"":
            return
        putting = asyncio.ensure_future(self._queue.put(piece))
        try:
            await asyncio.wait({putting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.done():
                putting.cancel()
        if self.task.done():
            self.task.result()
            if piece is not None:
                raise InvalidArgument("the upload has ended before its last piece")


class Uploads:
    """All uploads under way, by kernel and by the id that the caller chose."""

    def __init__(self) -> None:
        self._uploads: dict[tuple[str, str], _Upload] = {}

    async def take(self, kernel_id: str, params: UploadFile, unpack: Unpack) -> UploadState:
        """Take one piece of an upload; the first one begins it.

        Raises:
            InvalidArgument: when the piece does not follow the one before.
            AgentError: whatever unpacking raised.
        """
        key = (kernel_id, params.upload_id)
        upload = self._uploads.get(key)
        if upload is None:
            upload = self._begin(key, params, unpack)
        if params.offset != upload.taken:
            raise InvalidArgument(
                f"offset: {params.offset} does not follow the {upload.taken} bytes that are taken",
                hint="Send the pieces one after the other, or begin under another upload_id.",
            )
        await upload.take(params.data, last=params.last)
        return UploadState(taken=upload.taken, done=params.last)

    def _begin(self, key: tuple[str, str], params: UploadFile, unpack: Unpack) -> _Upload:
        if params.offset != 0:
            raise InvalidArgument(
                f"there is no upload {params.upload_id!r}, or it has ended",
                hint="Begin it again from offset 0.",
            )
        if len(self._uploads) >= AT_ONCE:
            raise InvalidArgument(f"{AT_ONCE} uploads are under way already", hint="Wait for one.")
        upload = self._uploads[key] = _Upload(unpack)
        upload.task.add_done_callback(lambda task: self._ended(key, task))
        return upload

    def _ended(self, key: tuple[str, str], task: asyncio.Future[None]) -> None:
        self._uploads.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever sends the next piece is told

    async def end(self, kernel_id: str, error: AgentError | None = None) -> None:
        """Give up the uploads of a kernel."""
        tasks = [u.task for (owner, _), u in self._uploads.items() if owner == kernel_id]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give up every upload: the agent stops."""
        for kernel_id in {owner for owner, _ in self._uploads}:
            await self.end(kernel_id)
