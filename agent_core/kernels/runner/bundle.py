"""What kernels that see none of this host's files have mounted to be run by: made once, by need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from agent_core import clock
from agent_core.contracts.backend import ContainerStatus
from agent_core.contracts.errors import AgentError, PluginError
from agent_core.contracts.runner import KernelRunner

log = structlog.get_logger(__name__)

Containers = Callable[[], Awaitable[Sequence[ContainerStatus]]]


class RunnerBundle:
    """The bundle of the selected runner.

    Args:
        runner: Makes it; None where none is needed: the backend brings its own runner, or its
            kernels see the host's files.
        directory: Where bundles are.
    """

    def __init__(self, runner: KernelRunner | None, directory: Path) -> None:
        self._runner = runner
        self._directory = directory
        self._making: asyncio.Task[str] | None = None

    async def path(self) -> str:
        """Return where it is on this host, and make it first where it is not; empty for none.

        Those who come while it is being made wait for it together; after a failure the next one
        tries again.

        Raises:
            AgentError: when it cannot be made, with what to do.
        """
        if self._runner is None:
            return ""
        made = self._making
        if made is None or (made.done() and not _is_whole(made)):
            made = self._making = asyncio.create_task(self._make(self._runner), name="bundle")
        return await asyncio.shield(made)

    async def prepare(self, containers: Containers) -> None:
        """Make it before anybody needs it; what goes wrong is told to whoever needs it.

        Where no container exists that could use an earlier one, those are removed.

        Args:
            containers: Lists the containers of this agent, whatever they do.
        """
        if self._runner is None:
            return
        try:
            await self.path()
            if not await containers():
                await asyncio.to_thread(self._runner.forget_bundles, str(self._directory))
        except AgentError as exc:
            log.warning("the kernels' runner is not prepared", error=exc.message, hint=exc.hint)
        except OSError as exc:
            log.warning("earlier runners could not be removed", error=str(exc))

    async def close(self) -> None:
        """Wait for what is being made: a thread cannot be told to stop."""
        if self._making is not None:
            await asyncio.gather(self._making, return_exceptions=True)

    async def _make(self, runner: KernelRunner) -> str:
        began = clock.monotonic()
        try:
            path: object = await asyncio.to_thread(runner.bundle, str(self._directory))
        except AgentError:
            raise
        except Exception as exc:
            what = f"runner {runner.info.name!r} failed in bundle(): {type(exc).__name__}: {exc}"
            raise PluginError(what, plugin=runner.info.name, stage="bundle") from exc
        if not isinstance(path, str) or not _is_directory(path):
            what = f"runner {runner.info.name!r} answered bundle() with {path!r}, no directory"
            raise PluginError(what, plugin=runner.info.name, stage="bundle")
        log.info("the kernels' runner is there", path=path, seconds=clock.monotonic() - began)
        return path


def _is_whole(made: asyncio.Task[str]) -> bool:
    """Say whether what was made is still there."""
    if made.cancelled() or made.exception() is not None:
        return False
    return _is_directory(made.result())


def _is_directory(path: str) -> bool:
    return Path(path).is_dir()
