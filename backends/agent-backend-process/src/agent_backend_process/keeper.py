"""The lives of one agent's containers: started, watched, found again, ended, removed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

from agent_backend_process import ending, processes
from agent_backend_process.containers import Containers
from agent_backend_process.directory import ContainerDirectory
from agent_backend_process.journal import Journal
from agent_backend_process.launching import Launched, hear, spawn, start_failed
from agent_backend_process.observation import Observation, observe
from agent_backend_process.threads import Threads
from agent_backend_process.watch import ProcessWatch, reap
from agent_core.contracts.backend import ContainerState
from agent_core.contracts.errors import KernelFailed, NotFound, WrongState

_START_DEADLINE = 10.0
_PATIENCE = 5.0
_PERIOD = 0.02
_LOOKS = 5
_LOG = logging.getLogger(__name__)


class Keeper:
    """Owns the tasks, locks and watches of the containers of one agent."""

    def __init__(self, containers: Containers, threads: Threads) -> None:
        self.journal = Journal(time.time_ns())
        self._containers = containers
        self._threads = threads
        self._watch = ProcessWatch(self._on_end)
        self._gone: dict[str, asyncio.Event] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def adopt(self) -> None:
        """Find every container again, and watch those that run."""
        found = await self._threads.call(self._containers.all)
        for directory in found:
            await self._settle(directory.name)

    async def close(self) -> None:
        """Watch nothing any more and end what waits; the containers go on."""
        self._watch.close()
        self.journal.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_end(self, name: str) -> None:
        self._own(self._settle(name))

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.warning("a container could not be seen to: %s", task.exception())

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    # -- the start ---------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start a container; a caller that goes away does not interrupt it."""
        await asyncio.shield(self._own(self._start(name)))

    async def _start(self, name: str) -> None:
        directory = self._containers.at(name)
        async with self._lock(name):
            launched = await self._threads.call(_spawn, directory)
            if launched is None:
                return
            self._watch.add(name, launched.pidfd)
            answer = await self._answer(directory, launched)
            if answer in {"busy", "over"}:
                await self._await_other_shim(directory)
            elif not answer.startswith("ok"):
                raise start_failed(directory, answer.removeprefix("failed "))
            self.journal.publish("started", name)

    async def _answer(self, directory: ContainerDirectory, launched: Launched) -> str:
        try:
            return await hear(launched, _START_DEADLINE)
        except TimeoutError as exc:
            if self._watch.watches(directory.name):
                signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
            await self._threads.call(ending.force, directory, _PATIENCE)
            raise KernelFailed(
                f"the shim of container {directory.name!r} did not answer in "
                f"{_START_DEADLINE:.0f} s and was killed",
                hint="Look whether the disk under the state directory answers.",
            ) from exc

    async def _await_other_shim(self, directory: ContainerDirectory) -> None:
        """Wait for the shim that an earlier agent started just before it went away."""
        async with asyncio.timeout(_START_DEADLINE):
            # No event of ours tells of another's child.
            while await self._state(directory.name) is ContainerState.CREATED:  # noqa: ASYNC110
                await asyncio.sleep(_PERIOD)
        await self._settle(directory.name)

    async def _state(self, name: str) -> ContainerState:
        seen = await self.look(name)
        if seen is None:
            raise NotFound(f"there is no container {name!r}")
        return seen.state

    # -- looking -----------------------------------------------------------------------------

    async def look(self, name: str) -> Observation | None:
        """Observe one container; None when there is none.

        Raises:
            WrongState: when its files cannot be made out.
        """
        return await self._threads.call(look, self._containers.at(name))

    async def _settle(self, name: str) -> None:
        """Bring what is known of a container up to date: watch it, or tell of its end."""
        directory = self._containers.at(name)
        try:
            seen, pidfd = await self._threads.call(_settled, directory)
        except WrongState as exc:
            _LOG.warning("%s", exc)
            return
        if seen is None:
            return
        if pidfd is not None:
            self._watch.add(name, pidfd)
            self._gone.setdefault(name, asyncio.Event())
            self.journal.publish("started", name)
        elif seen.state is ContainerState.EXITED:
            if seen.identity is not None and not seen.failure:
                self.journal.publish("started", name)
            self.journal.publish("exited", name, seen.exit)
            self._gone.setdefault(name, asyncio.Event()).set()

    # -- the end -----------------------------------------------------------------------------

    async def end(self, name: str, grace: float) -> None:
        """End a container, at once or within `grace` seconds; returns once it is gone.

        Raises:
            WrongState: when some process does not go away.
        """
        async with self._lock(name):  # a start in progress goes first
            seen = await self.look(name)
        if seen is None or seen.state is not ContainerState.RUNNING:
            return
        if not self._watch.watches(name):
            await self._settle(name)
        directory = self._containers.at(name)
        order = f"stop {grace}" if grace > 0 else "kill"
        if seen.supervised and await self._threads.call(directory.order, order):
            if await self._gone_within(name, grace + _PATIENCE):
                return
            grace = 0
        await self._force(directory, grace)

    async def _gone_within(self, name: str, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.setdefault(name, asyncio.Event()).wait()
        seen = await self.look(name)
        return seen is None or seen.state is not ContainerState.RUNNING

    async def _force(self, directory: ContainerDirectory, grace: float) -> None:
        """End a container without its shim's help."""
        await self._threads.call(ending.ask, directory, grace)
        await self._threads.call(ending.force, directory, _PATIENCE)
        await self._settle(directory.name)

    async def remove(self, name: str) -> None:
        """Remove a container, ending it first.

        Raises:
            WrongState: when some process does not go away; nothing was removed.
        """
        await self.end(name, 0)
        async with self._lock(name):
            await self._threads.call(self._containers.remove, name, _PATIENCE)
        self.journal.forget(name)
        self._gone.pop(name, None)
        self._locks.pop(name, None)


def look(directory: ContainerDirectory) -> Observation | None:
    """Observe one container; None when there is none.

    Raises:
        WrongState: when its files cannot be made out.
    """
    try:
        return observe(directory)
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise WrongState(
            f"container {directory.name!r} cannot be made out: {exc}",
            hint=f"Nothing was done with it. Look at {directory.path}.",
        ) from exc


def _spawn(directory: ContainerDirectory) -> Launched | None:
    """Start the shim of a container that was never started; None when it runs."""
    seen = look(directory)
    if seen is None:
        raise NotFound(f"there is no container {directory.name!r}")
    if seen.state is ContainerState.RUNNING:
        return None
    if seen.state is ContainerState.EXITED:
        code = seen.exit.code if seen.exit else None
        raise WrongState(
            f"container {directory.name!r} has already ended, with exit code {code}",
            hint="Remove it and create another.",
        )
    try:
        return spawn(directory)
    except OSError as exc:
        message = f"the shim of container {directory.name!r} could not be started: {exc}"
        raise KernelFailed(message, hint="Look at the agent's limits (`ulimit -a`).") from exc


def _settled(directory: ContainerDirectory) -> tuple[Observation | None, int | None]:
    """Observe a container until it is clear what to watch; ends what an ended one left behind."""
    for _ in range(_LOOKS):
        seen = look(directory)
        if seen is None or seen.identity is None:
            return seen, None
        if seen.state is ContainerState.EXITED:
            reap(seen.identity.shim)
            if directory.ending() is None:
                directory.record_inferred_exit()
            return seen, None
        target = seen.identity.shim if seen.supervised else seen.identity.main
        pidfd = processes.open_process(target)
        if pidfd is not None:
            return seen, pidfd
        if not seen.supervised and ending.kill_leftovers(directory, seen, _PATIENCE):
            break
    return seen, None
