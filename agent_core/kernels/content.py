"""What is in the node and in its kernels, as the RPC sees it: images, files and commits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agent_core import clock
from agent_core.contracts.backend import FileEntry
from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    DeadlineExceeded,
    KernelFailed,
    PluginContractBroken,
    PluginTimeout,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import Support
from agent_core.kernels.archiving import archive_path, write_archive
from agent_core.kernels.asking import ask, items
from agent_core.kernels.pulling import progress_of
from agent_core.kernels.service import KernelService
from agent_core.kernels.services import Services
from agent_core.kernels.states import KernelState
from agent_core.kernels.uploading import Uploads
from agent_core.ledger import KernelRow
from agent_core.wire import content as c

log = structlog.get_logger(__name__)

T = TypeVar("T")

_KINDS = ("file", "directory", "link", "other")
_LEAVING = (KernelState.RESTARTING, KernelState.TERMINATING)
_REMEMBERED = 1000
"""Commits that have ended of which is still known what became of them."""


class ContentService:
    """Hands images, files and commits to the backend: bounded, with deadlines, replies checked."""

    def __init__(self, services: Services, kernels: KernelService) -> None:
        self._services = services
        self._kernels = kernels
        self._uploads = Uploads()
        self._commits: dict[str, c.CommitState] = {}
        self._committing: dict[str, asyncio.Task[None]] = {}

    # ---- images ----

    async def pull(self, name: str) -> AsyncGenerator[c.PullProgress, None]:
        """Fetch an image; callers of one image share it, and it goes on without them."""
        async with aclosing(self._services.pulls.pull(name)) as progress:
            async for item in progress:
                yield item

    async def push(self, name: str) -> AsyncIterator[c.PullProgress]:
        """Send an image to its registry."""
        backend, timeout = self._services.backend, self._services.settings.push_timeout
        progress = progress_of(backend.push_image(name), backend.info.name, "push_image")
        bound = asyncio.timeout(timeout)
        try:
            async with bound, aclosing(items(self._services, progress, "push_image")) as checked:
                async for item in checked:
                    yield item
        except TimeoutError as exc:
            what = f"backend {backend.info.name!r} still pushes {name} after {timeout} s"
            raise PluginTimeout(what, plugin=backend.info.name, stage="push_image") from exc

    async def purge(self, name: str) -> None:
        """Remove an image from the node."""
        removing = self._services.backend.remove_image(name)
        await ask(self._services, removing, "remove_image")

    # ---- files ----

    async def upload(self, params: c.UploadFile) -> c.UploadState:
        """Take one piece of a tar stream.

        Raises:
            WrongState: when the kernel does not run.
            InvalidArgument: when the piece does not follow the one before.
        """
        row = await self._running(params.kernel_id)

        async def unpack(tar: AsyncIterator[bytes]) -> None:
            copying = self._services.backend.copy_in(row.container or "", params.path, tar)
            # Its sender sets the pace; how long it may rest is counted by the upload.
            asking = ask(self._services, copying, "copy_in", extra=math.inf)
            await self._while_it_runs(row.kernel_id, asking)

        return await self._uploads.take(row.kernel_id, params, unpack)

    async def download(self, kernel_id: str, path: str) -> AsyncIterator[c.FileChunk]:
        """Yield a path of a kernel as a tar stream.

        Raises:
            NotFound: when nothing is there.
        """
        row = await self._running(kernel_id)
        tar = self._services.backend.copy_out(row.container or "", path)
        async with aclosing(items(self._services, tar, "copy_out")) as chunks:
            async for chunk in chunks:
                for start in range(0, len(chunk), c.CHUNK):
                    yield c.FileChunk(data=chunk[start : start + c.CHUNK])

    async def files(self, kernel_id: str, path: str) -> Sequence[c.FileRow]:
        """List a directory of a kernel.

        Raises:
            NotFound: when nothing is there.
        """
        row = await self._running(kernel_id)
        listing = self._services.backend.list_files(row.container or "", path)
        found = await ask(self._services, listing, "list_files")
        return [self._row(entry) for entry in found]

    def _row(self, entry: object) -> c.FileRow:
        if not isinstance(entry, FileEntry) or entry.kind not in _KINDS:
            raise PluginContractBroken(
                f"the backend listed {entry!r}, which is no file",
                plugin=self._services.backend.info.name,
                stage="list_files",
            )
        return c.FileRow.model_validate(
            {name: getattr(entry, name) for name in ("name", "kind", "size", "mode", "mtime")}
        )

    async def _running(self, kernel_id: str) -> KernelRow:
        row = await self._kernels.find(kernel_id)
        if row.state != KernelState.RUNNING:
            raise WrongState(
                f"kernel {row.kernel_id} is {row.state}, and only one that runs has files",
                hint=f"`agentctl kernels show {row.kernel_id}` says why.",
            )
        return row

    async def _while_it_runs(self, kernel_id: str, work: Coroutine[Any, Any, T]) -> T:
        """Do something in a kernel's container, and give it up once that container is to go.

        Raises:
            KernelFailed: when the kernel ends or is restarted meanwhile.
        """
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._kernels.wait(kernel_id, _LEAVING))
        both: set[asyncio.Future[Any]] = {working, leaving}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise KernelFailed(f"kernel {kernel_id} is {leaving.result().state} meanwhile")
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    # ---- commits ----

    async def commit(self, kernel_id: str, image: str, archive: str = "") -> c.CommitState:
        """Make a kernel's container into an image, and a file of it; goes on without its caller.

        Raises:
            InvalidArgument: when the archive's name is none.
            Unsupported: when the backend writes no archives; nothing was committed.
            Conflict: while another commit of this kernel is under way.
            WrongState: when the kernel does not run.
            AgentError: why it failed.
        """
        row = await self._running(kernel_id)
        path = self._archive_path(archive) if archive else None
        if row.kernel_id in self._committing:
            image = self._commits[row.kernel_id].image
            raise Conflict(
                f"kernel {row.kernel_id} is being committed to {image}",
                hint="Wait until that is done; get_commit_status says so.",
            )
        self._commits[row.kernel_id] = c.CommitState(
            kernel_id=row.kernel_id,
            status="ongoing",
            image=image,
            archive=str(path or ""),
            began_at=clock.wall(),
        )
        task = asyncio.ensure_future(self._commit(row, image, path))
        self._committing[row.kernel_id] = task
        task.add_done_callback(lambda done: self._committed(row.kernel_id, done))
        await asyncio.shield(task)
        return self._commits[row.kernel_id]

    async def _commit(self, row: KernelRow, image: str, archive: Path | None) -> None:
        committing = self._services.backend.commit(row.container or "", image)
        timeout = self._services.settings.commit_timeout
        extra = math.inf if timeout is None else timeout
        asking = ask(self._services, committing, "commit", extra=extra)
        digest = await self._while_it_runs(row.kernel_id, asking)
        size = 0
        if archive is not None:
            # The image is made: the kernel may end meanwhile.
            size = await self._archive(row.kernel_id, image, archive)
        self._note(row.kernel_id, status="done", digest=str(digest), size=size)

    def _archive_path(self, archive: str) -> Path:
        backend = self._services.backend
        if backend.capabilities().get("images.save") is not Support.YES:
            raise Unsupported(
                f"archive: backend {backend.info.name!r} cannot write images to files",
                hint="Commit to an image alone.",
            )
        return archive_path(self._services.settings.commit_path, archive)

    async def _archive(self, kernel_id: str, image: str, path: Path) -> int:
        def tell(written: int) -> None:
            state = self._commits[kernel_id]
            self._commits[kernel_id] = state.model_copy(update={"written": written})

        tar = self._services.backend.save_image(image)
        seconds = self._services.settings.commit_timeout
        try:
            chunks = aclosing(items(self._services, tar, "save_image"))
            async with asyncio.timeout(seconds), chunks as stream:
                return await write_archive(stream, path, tell)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"image {image} was not written to {path} in {seconds:g} s; the image is made",
                hint="[api] commit-timeout is how long that may take.",
            ) from exc

    def _committed(self, kernel_id: str, task: asyncio.Task[None]) -> None:
        self._committing.pop(kernel_id, None)
        if task.cancelled():
            self._note(kernel_id, status="failed", error="the agent was stopped")
        elif (error := task.exception()) is not None:
            why = error.message if isinstance(error, AgentError) else str(error)
            log.warning("a kernel was not committed", kernel_id=kernel_id, error=why)
            self._note(kernel_id, status="failed", error=why)

    def _note(self, kernel_id: str, **changes: object) -> None:
        state = self._commits.pop(kernel_id)
        self._commits[kernel_id] = state.model_copy(update={**changes, "ended_at": clock.wall()})
        ended = [each for each in self._commits if each not in self._committing]
        for oldest in ended[:-_REMEMBERED]:
            del self._commits[oldest]

    async def commit_state(self, kernel_id: str) -> c.CommitState:
        """Say what became of the last commit of a kernel since the agent began."""
        row = await self._kernels.find(kernel_id)
        nothing = c.CommitState(kernel_id=row.kernel_id, status="none")
        return self._commits.get(row.kernel_id, nothing)

    async def close(self) -> None:
        """Give up what is under way: the agent stops."""
        await self._uploads.close()
        tasks = [*self._committing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
