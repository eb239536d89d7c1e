"""Tar streams that come in pieces, each in a call of its own, with bounded memory in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from agent_core.contracts.errors import Busy, DeadlineExceeded, InvalidArgument
from agent_core.wire.content import UploadFile, UploadState

PIECES: Final = 4
"""Pieces of one upload that wait in memory."""

AT_ONCE: Final = 64
"""Uploads at a time."""

IDLE: Final = 60.0
"""Seconds that an upload may rest, on either side, before it is given up."""

Unpack = Callable[[AsyncIterator[bytes]], Awaitable[None]]
"""Takes a tar stream to its end."""


class _Upload:
    """One upload: what is unpacked reads what comes."""

    def __init__(self, unpack: Unpack) -> None:
        self.taken = 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES)
        self._timer: asyncio.TimerHandle | None = None
        self._rested = False
        self.task: asyncio.Future[None] = asyncio.ensure_future(self._run(unpack))
        self._stir()

    async def _run(self, unpack: Unpack) -> None:
        try:
            await unpack(self._pieces())
        except asyncio.CancelledError:
            if not self._rested:
                raise
            raise DeadlineExceeded(f"an upload did not go on for {IDLE:g} s") from None
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _stir(self) -> None:
        """Begin to count anew how long it rests."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE, self._give_up)

    def _give_up(self) -> None:
        self._rested = True
        self.task.cancel()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            self._stir()
            yield piece

    async def take(self, data: bytes, *, last: bool) -> None:
        """Take a piece; waits where what came before is not unpacked yet."""
        self._stir()
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
                raise InvalidArgument(
                    "the upload has ended before its last piece", hint="Send one whole tar archive."
                )


class Uploads:
    """All uploads under way, by kernel and by the id that the caller chose."""

    def __init__(self) -> None:
        self._uploads: dict[tuple[str, str], _Upload] = {}
        self._failed: dict[tuple[str, str], BaseException] = {}

    async def take(self, kernel_id: str, params: UploadFile, unpack: Unpack) -> UploadState:
        """Take one piece of an upload; the first one begins it.

        Raises:
            InvalidArgument: when the piece does not follow the one before.
            AgentError: whatever unpacking raised.
        """
        key = (kernel_id, params.upload_id)
        upload = self._uploads.get(key)
        if upload is None:
            failed = self._failed.pop(key, None)
            if failed is not None and params.offset:  # one that begins anew is another upload
                raise failed
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
            details = {"retry_after": 1.0}
            raise Busy(f"{AT_ONCE} uploads are under way already", details=details)
        upload = self._uploads[key] = _Upload(unpack)
        upload.task.add_done_callback(lambda task: self._ended(key, task))
        return upload

    def _ended(self, key: tuple[str, str], task: asyncio.Future[None]) -> None:
        self._uploads.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # whoever sends the next piece is told
            self._failed[key] = error
            for oldest in [*self._failed][:-AT_ONCE]:
                del self._failed[oldest]

    async def close(self) -> None:
        """Give up every upload: the agent stops."""
        tasks = [upload.task for upload in self._uploads.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
