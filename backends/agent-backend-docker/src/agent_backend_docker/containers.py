"""Containers by name: made, started, ended and removed, each any number of times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

from agent_backend_docker import arguments
from agent_backend_docker.configfiles import archive_of
from agent_backend_docker.engine import Engine, EngineError
from agent_backend_docker.observation import listed, status_of
from agent_backend_docker.settings import Settings
from agent_backend_docker.transfers import ROOM
from agent_backend_docker.turns import Turns
from agent_core.contracts.backend import (
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    Presence,
)
from agent_core.contracts.errors import (
    Conflict,
    ImageNotFound,
    KernelFailed,
    NotFound,
    PluginError,
    PluginTimeout,
    Unsupported,
    WrongState,
)

_GONE: Final = 404
_CONFLICT: Final = 409
_INSPECTED_AT_ONCE: Final = 16


class Containers:
    """The containers of one engine."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._slow = settings.slow_deadline
        self._starts = Turns(settings.concurrent_starts)
        self._removals = Turns(settings.concurrent_removals)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # -- what is seen ------------------------------------------------------------------------

    async def show(self, name: str) -> Mapping[str, Any] | None:
        """Return what the engine knows of a container, or None when there is none."""
        try:
            shown = await self._engine.ask("GET", f"containers/{name}/json")
        except EngineError as exc:
            if exc.status == _GONE:
                return None
            raise
        # The engine finds a container also by the beginning of its id.
        is_it = isinstance(shown, Mapping) and shown.get("Name") == f"/{name}"
        return shown if is_it else None

    async def shown(self, name: str) -> Mapping[str, Any]:
        """Return what the engine knows of a container.

        Raises:
            NotFound: when there is none.
        """
        shown = await self.show(name)
        if shown is None:
            raise NotFound(f"there is no container {name!r}")
        return shown

    async def inspect(self, name: str) -> ContainerStatus:
        """Observe one container; an engine that does not answer makes it unknown."""
        began = time.monotonic()
        try:
            shown = await self.show(name)
        except PluginError as exc:
            unknown, ended = Presence.UNKNOWN, time.monotonic()
            return ContainerStatus(
                name, presence=unknown, began=began, ended=ended, reason=exc.message
            )
        ended = time.monotonic()
        if shown is None:
            return ContainerStatus(name, presence=Presence.ABSENT, began=began, ended=ended)
        return status_of(shown, began, ended)

    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        """List the owner's containers; those that have ended are looked at one by one."""
        began = time.monotonic()
        filters = {"label": [f"{arguments.OWNER}={owner}"]}
        entries = await self._engine.ask(
            "GET", "containers/json", params={"all": True, "filters": filters}
        )
        ended = time.monotonic()
        found = [listed(entry, began, ended) for entry in entries or []]
        at_once = asyncio.Semaphore(_INSPECTED_AT_ONCE)

        async def whole(seen: ContainerStatus) -> ContainerStatus:
            if seen.state is ContainerState.RUNNING:
                return seen
            async with at_once:
                return await self.inspect(seen.name)

        looked = await asyncio.gather(*map(whole, found))
        return [seen for seen in looked if seen.presence is not Presence.ABSENT]

    # -- what is done ------------------------------------------------------------------------

    async def create(self, spec: ContainerSpec) -> None:
        """Create a container, or find that it is there; its files and networks are added then.

        Raises:
            Unsupported: when the edits need what no container can have; nothing was taken.
            Conflict: when one of this name was made from another specification.
            ImageNotFound: when the engine does not have the image.
            KernelFailed: when the engine refuses it, with its reason.
        """
        body = arguments.create_body(spec, self._settings)
        async with self._alone(spec.name):
            try:
                await self._make(spec, body)
            except PluginError as exc:  # refused, late, or broken off: it may be there in each case
                await self._is_there_all_the_same(spec, exc)
            await self._complete(spec)

    async def _make(self, spec: ContainerSpec, body: arguments.Body) -> None:
        await self._engine.ask(
            "POST", "containers/create", params={"name": spec.name}, body=body, seconds=self._slow
        )

    async def _is_there_all_the_same(self, spec: ContainerSpec, refusal: PluginError) -> None:
        """Find the container of a create that failed: it may have been made before, or yet."""
        status = refusal.status if isinstance(refusal, EngineError) else _CONFLICT
        shown = await self.show(spec.name) if status >= _CONFLICT else None
        if shown is None:
            raise _refused(spec, refusal) from refusal
        digest = (shown["Config"].get("Labels") or {}).get(arguments.DIGEST)
        if digest != arguments.spec_digest(spec):
            raise Conflict(
                f"container {spec.name} exists, and was made from another specification"
            ) from refusal

    async def _complete(self, spec: ContainerSpec) -> None:
        if spec.edits.files:
            await self._engine.ask(
                "PUT",
                f"containers/{spec.name}/archive",
                params={"path": "/"},
                body=archive_of(spec.edits.files),
                headers={"Content-Type": "application/x-tar"},
            )
        for network in spec.edits.networks[1:]:
            await self._join(spec, network)

    async def _join(self, spec: ContainerSpec, network: str) -> None:
        body = {
            "Container": spec.name,
            "EndpointConfig": {"Aliases": [*arguments.aliases(spec)]},
        }
        try:
            await self._engine.ask("POST", f"networks/{network}/connect", body=body)
        except EngineError as exc:
            if "already exists in network" not in exc.said:
                raise KernelFailed(
                    f"container {spec.name} cannot join network {network}: {exc.said}"
                ) from exc

    async def start(self, name: str) -> None:
        """Start a created container.

        Raises:
            NotFound: when there is no such container.
            WrongState: when it has already ended: the engine would run it once more.
            KernelFailed: when it cannot be started, with the engine's reason.
        """
        async with self._alone(name):
            seen = status_of(await self.shown(name), 0, 0)
            if seen.state is ContainerState.RUNNING:
                return
            if seen.state is not ContainerState.CREATED:
                raise WrongState(f"container {name!r} has already ended")
            async with self._starts.turn():
                await self._start(name)

    async def _start(self, name: str) -> None:
        try:
            await self._engine.ask("POST", f"containers/{name}/start", seconds=self._slow)
        except EngineError as exc:
            raise KernelFailed(
                f"container {name} cannot be started: {exc.said}",
                hint="`agentctl doctor` shows what the engine can do; its log says more.",
            ) from exc

    async def stop(self, name: str, grace: float) -> None:
        """Send SIGTERM and, after the grace, SIGKILL; returns once nothing is left."""
        if grace >= 1 and grace == int(grace):
            await self._stop(name, int(grace))
            return
        if grace <= 0:
            await self.kill(name)
            return
        # The engine itself counts in whole seconds.
        if not await self._signal(name, "SIGTERM"):
            return
        try:
            await self._ended(name, grace)
        except PluginTimeout:
            await self.kill(name)

    async def _stop(self, name: str, grace: int) -> None:
        try:
            path, params = f"containers/{name}/stop", {"t": grace}
            await self._engine.ask("POST", path, params=params, seconds=grace + self._slow)
        except EngineError as exc:
            if exc.status != _GONE:
                raise WrongState(f"container {name} cannot be stopped: {exc.said}") from exc

    async def kill(self, name: str) -> None:
        """Kill a container; returns once nothing is left."""
        if await self._signal(name, "SIGKILL"):
            await self._ended(name, self._slow)

    async def _signal(self, name: str, signal: str) -> bool:
        """Send a signal; says whether there was somebody to send it to."""
        try:
            await self._engine.ask("POST", f"containers/{name}/kill", params={"signal": signal})
        except EngineError as exc:
            if exc.status in (_GONE, _CONFLICT):
                return False
            if "is not running" in exc.said or "only kill running" in exc.said:  # the latter Podman
                return False
            raise
        return True

    async def _ended(self, name: str, seconds: float) -> None:
        params = {"condition": "not-running"}
        try:
            await self._engine.ask(
                "POST", f"containers/{name}/wait", params=params, seconds=seconds
            )
        except EngineError as exc:
            if exc.status != _GONE:
                raise

    async def remove(self, name: str) -> None:
        """Remove a container with its anonymous volumes, killing it where it runs.

        Raises:
            WrongState: when the engine could not remove it.
        """
        async with self._removals.turn():
            try:
                params = {"force": True, "v": True}
                await self._engine.ask(
                    "DELETE", f"containers/{name}", params=params, seconds=self._slow
                )
            except EngineError as exc:
                if exc.status == _GONE:
                    return
                if exc.status != _CONFLICT or "already in progress" not in exc.said:
                    raise WrongState(f"container {name} cannot be removed: {exc.said}") from exc
                await self._removed(name)

    async def _removed(self, name: str) -> None:
        """Wait for a removal that somebody else has asked for."""
        try:
            params = {"condition": "removed"}
            await self._engine.ask(
                "POST", f"containers/{name}/wait", params=params, seconds=self._slow
            )
        except EngineError as exc:
            if exc.status != _GONE:
                raise

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One create or start at a time for each container."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            yield


def _refused(spec: ContainerSpec, refusal: PluginError) -> Exception:
    if not isinstance(refusal, EngineError):
        return refusal
    if refusal.status == _GONE and "image" in refusal.said.lower():
        return ImageNotFound(
            f"the engine has no image {spec.image!r}", hint=f"agentctl images pull {spec.image}"
        )
    if "could not select device driver" in refusal.said:
        return Unsupported(f"device request: {refusal.said}")
    said = f"container {spec.name} cannot be created: {refusal.said}"
    if "no space left" in refusal.said.lower():
        return KernelFailed(said, hint=ROOM)
    return KernelFailed(said)
