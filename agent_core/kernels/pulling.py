"""Images that are fetched: one pull of an image at a time, shared by all who want it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Final

import structlog
from pydantic import ValidationError

from agent_core.contracts.backend import ContainerBackend
from agent_core.contracts.errors import AgentError, PluginContractBroken, PluginError, PluginTimeout
from agent_core.wire.content import PullProgress

log = structlog.get_logger(__name__)

_KEPT: Final = 256
"""Progress that one who watches has not taken yet; older items are dropped."""


class _Pull:
    """One pull under way."""

    __slots__ = ("latest", "news", "task")

    def __init__(self) -> None:
        self.latest: dict[str, PullProgress] = {}
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def tell(self, progress: PullProgress) -> None:
        """Keep the latest of each layer, and wake who watches."""
        if progress.layer in self.latest or len(self.latest) < _KEPT:
            self.latest[progress.layer] = progress
        news, self.news = self.news, asyncio.Event()
        news.set()


class Pulls:
    """Fetches images by the backend; a pull goes on when nobody watches it any more.

    Args:
        backend: What fetches them.
        timeout: Tells the seconds that one pull may take, or None for no limit.
    """

    def __init__(self, backend: ContainerBackend, timeout: Callable[[], float | None]) -> None:
        self._backend = backend
        self._timeout = timeout
        self._pulls: dict[str, _Pull] = {}

    async def pull(self, name: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch an image, or join the pull that is under way; yields the latest of each layer.

        Raises:
            ImageNotFound: when no registry has it.
            PluginTimeout: when it takes too long.
            AgentError: whatever the backend raised.
        """
        pull = self._pulls.get(name) or self._begin(name)
        told: Mapping[str, PullProgress] = {}
        while True:
            news, latest = pull.news, dict(pull.latest)
            for layer, progress in latest.items():
                if told.get(layer) != progress:
                    yield progress
            told = latest
            task = pull.task
            if task is None or task.done():
                break
            waiting = asyncio.ensure_future(news.wait())
            try:
                await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        if task is not None and not task.cancelled():
            task.result()

    def _begin(self, name: str) -> _Pull:
        pull = self._pulls[name] = _Pull()
        pull.task = asyncio.ensure_future(self._run(name, pull))
        pull.task.add_done_callback(lambda task: self._ended(name, task))
        return pull

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._pulls.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("an image was not pulled", image=name, error=str(error))

    async def _run(self, name: str, pull: _Pull) -> None:
        plugin = self._backend.info.name
        timeout = self._timeout()
        try:
            async with asyncio.timeout(timeout):
                async with contextlib.aclosing(
                    progress_of(self._backend.pull_image(name), plugin, "pull_image")
                ) as items:
                    async for progress in items:
                        pull.tell(progress)
        except AgentError:
            raise
        except TimeoutError as exc:
            raise PluginTimeout(
                f"backend {plugin!r} still pulls {name} after {timeout} s",
                plugin=plugin,
                stage="pull_image",
            ) from exc
        except Exception as exc:
            what = f"backend {plugin!r} failed to pull {name}: {type(exc).__name__}: {exc}"
            raise PluginError(what, plugin=plugin, stage="pull_image") from exc

    async def close(self) -> None:
        """Give up what is under way: the agent stops."""
        tasks = [pull.task for pull in self._pulls.values() if pull.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def progress_of(
    items: AsyncIterator[Mapping[str, Any]], backend: str, stage: str
) -> AsyncGenerator[PullProgress, None]:
    """Check what a backend tells of a pull or a push.

    Raises:
        PluginContractBroken: when it is no progress.
    """
    async with contextlib.aclosing(_closable(items)) as checked:
        async for item in checked:
            try:
                yield PullProgress.model_validate(item)
            except ValidationError as exc:
                raise PluginContractBroken(
                    f"backend {backend!r} told {item!r} of an image, which is no progress",
                    plugin=backend,
                    stage=stage,
                ) from exc


async def _closable(
    items: AsyncIterator[Mapping[str, Any]],
) -> AsyncGenerator[Mapping[str, Any], None]:
    close: Callable[[], Any] | None = getattr(items, "aclose", None)
    try:
        async for item in items:
            yield item
    finally:
        if close is not None:
            await close()
