"""The Docker backend: each kernel is a container of an engine that runs beside the agent.

The engine is asked through one client, and what it says is believed where the host's kernel cannot
be asked itself. Nothing is remembered here: names and labels find everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any, Final

from agent_backend_docker import cdi
from agent_backend_docker.commits import Commits
from agent_backend_docker.containers import Containers
from agent_backend_docker.declaration import EDITS, INFO
from agent_backend_docker.engine import Engine
from agent_backend_docker.eventing import Events
from agent_backend_docker.executing import execute
from agent_backend_docker.facts import capabilities_of, facts_of
from agent_backend_docker.files import Files
from agent_backend_docker.handles import handles_of
from agent_backend_docker.images import Images
from agent_backend_docker.logs import read_logs
from agent_backend_docker.networks import Networks
from agent_backend_docker.observation import state_of
from agent_backend_docker.settings import Settings, read_settings
from agent_backend_docker.transfers import Transfers
from agent_backend_docker.verification import differences
from agent_core.contracts.backend import (
    BackendEvent,
    ContainerBackend,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    ExitStatus,
    FileEntry,
    Handles,
    Image,
    Paths,
)
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.errors import NotFound, PluginDisabled, PluginError
from agent_core.contracts.info import Support

PLACES: Final = Paths(
    scratch="/home", config="/home/config", runner="/opt/kernel", run="/run/agent-kernel"
)
"""Where a container sees what the host has."""

_OLDEST: Final = (1, 41)
"""The oldest version of the Engine API that is spoken: that of Docker 20.10."""


class DockerBackend(ContainerBackend):
    """Runs containers by a Docker engine."""

    info = INFO
    edits = EDITS

    def __init__(self) -> None:
        self._settings = Settings()
        self._engine = Engine(self._settings.socket)
        self._about: Mapping[str, Any] = {}
        self._owner = ""
        self._make()

    def _make(self) -> None:
        engine, settings = self._engine, self._settings
        self._containers = Containers(engine, settings)
        self._images = Images(engine)
        self._transfers = Transfers(engine, settings)
        self._networks = Networks(engine, self._owner, overlay=settings.swarm_enabled)
        self._files = Files(engine, self._containers)
        self._commits = Commits(engine)
        self._events = Events(engine, self._containers, self._owner)

    # -- its own life ------------------------------------------------------------------------

    def open(self, config: Mapping[str, Any]) -> None:
        """Take the configuration.

        Raises:
            InvalidConfig: with everything in it that is wrong.
        """
        self._settings = read_settings(config)

    async def start_up(self, owner: str, state_dir: str) -> None:
        """Connect to the engine and learn what it is.

        Raises:
            PluginDisabled: when it is too old, or runs no Linux containers.
            PluginUnavailable: when it does not answer.
        """
        self._owner = owner
        self._engine = Engine(self._settings.socket, self._settings.deadline)
        await self._engine.open()
        self._make()
        try:
            self._about = await self._engine.ask("GET", "info")
            version = await self._engine.ask("GET", "version")
        except PluginError:
            await self._engine.close()
            raise
        self._about = {**self._about, "ApiVersion": version.get("ApiVersion", "")}
        if (why := _unfit(self._about)) is not None:
            await self._engine.close()
            raise PluginDisabled(why, plugin="docker", stage="start_up")

    async def shut_down(self) -> None:
        """Disconnect; containers go on."""
        await self._engine.close()

    def capabilities(self) -> Mapping[str, Support]:
        """Say what this engine can do on this node."""
        return {**INFO.capabilities, **capabilities_of(self._about)}

    def facts(self) -> Mapping[str, str]:
        """Say in words what an operator should know of this engine."""
        return facts_of(self._about, self._settings)

    def paths(self, host: Paths) -> Paths:
        """Say where a container sees these directories: in every one at the same places."""
        return Paths(**{key: path and getattr(PLACES, key) for key, path in asdict(host).items()})

    # -- images and networks -----------------------------------------------------------------

    async def images(self) -> Sequence[Image]:
        """List the engine's images."""
        return await self._images.all()

    async def inspect_image(self, name: str) -> Image:
        """Look one image up."""
        return await self._images.find(name)

    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Fetch an image, yielding progress by layer."""
        async for item in self._transfers.pull(name):
            yield item

    async def push_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Send an image to its registry, yielding progress by layer."""
        await self._images.find(name)
        async for item in self._transfers.push(name):
            yield item

    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        """Yield an image as `docker save` writes it."""
        async with aclosing(self._images.saved(name)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def remove_image(self, name: str) -> None:
        """Remove an image."""
        await self._images.remove(name)

    async def create_network(self, name: str) -> None:
        """Make a bridge, or an overlay where the engine is in a swarm."""
        await self._networks.create(name)

    async def remove_network(self, name: str) -> None:
        """Remove a network."""
        await self._networks.remove(name)

    # -- containers --------------------------------------------------------------------------

    async def create(self, spec: ContainerSpec) -> None:
        """Create a container."""
        edits = await self._spelled(spec.edits)
        await self._containers.create(replace(spec, edits=edits, env={**spec.env, **edits.env}))

    async def _spelled(self, edits: ContainerEdits) -> ContainerEdits:
        """Say everything as this engine understands it."""
        whole = await self._resolved(edits)
        return replace(whole, networks=tuple(map(self._networks.called, whole.networks)))

    async def _resolved(self, edits: ContainerEdits) -> ContainerEdits:
        """Put in the place of CDI names what the host's files say, unless the engine reads them."""
        if not edits.cdi_names or self._about.get("CDISpecDirs"):
            return edits
        directories = self._settings.cdi_spec_dirs
        found = await asyncio.to_thread(cdi.resolve, edits.cdi_names, directories)
        merged = MergedEdits.of("plugins", edits) | MergedEdits.of("CDI", found)
        return replace(merged.resolve(), cdi_names=())

    async def start(self, name: str) -> None:
        """Start a created container."""
        await self._containers.start(name)

    async def stop(self, name: str, grace: float) -> None:
        """Send SIGTERM, and kill after the grace."""
        await self._containers.stop(name, grace)

    async def kill(self, name: str) -> None:
        """Kill all processes of a container."""
        await self._containers.kill(name)

    async def remove(self, name: str) -> None:
        """Remove a container with its log and its anonymous volumes."""
        await self._containers.remove(name)

    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        """List the owner's containers."""
        return await self._containers.list(owner)

    async def inspect(self, name: str) -> ContainerStatus:
        """Observe one container."""
        return await self._containers.inspect(name)

    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        """Yield what happens; raises once the engine has gone away."""
        async with aclosing(self._events.after(cursor)) as events:
            async for event in events:
                yield event

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        """Yield the output that was kept."""
        async with aclosing(read_logs(self._engine, name, follow=follow)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def handles(self, name: str) -> Handles:
        """Name the processes and the cgroups of a running container."""
        return (await self._running(name))[1]

    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        """Compare what the host's kernel says of a container with what was asked."""
        shown, handles = await self._running(name)
        whole = await self._spelled(edits)
        return await asyncio.to_thread(differences, shown, handles, whole)

    async def _running(self, name: str) -> tuple[Mapping[str, Any], Handles]:
        shown = await self._containers.shown(name)
        state = shown.get("State", {})
        if state_of(state) is ContainerState.RUNNING:
            found = await asyncio.to_thread(handles_of, int(state.get("Pid", 0)), str(shown["Id"]))
            if found is not None:
                return shown, found
        raise NotFound(f"container {name!r} does not run")

    # -- what is in them ---------------------------------------------------------------------

    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        """Run a further process in a container, to its end."""
        return await execute(self._engine, name, argv)

    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream in a container."""
        await self._files.copy_in(name, path, tar)

    async def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        """Yield a file or a directory as a tar stream."""
        async with aclosing(self._files.copy_out(name, path)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        """List a directory of a running container."""
        return await self._files.list(name, path)

    async def commit(self, name: str, image: str) -> str:
        """Make a container into an image; returns the image's id."""
        return await self._commits.commit(name, image)


def _unfit(about: Mapping[str, Any]) -> str | None:
    """Say why an engine cannot be used, if it cannot."""
    if about.get("OSType", "linux") != "linux":
        return f"the engine runs {about['OSType']} containers, not Linux ones"
    version = tuple(int(n) for n in str(about["ApiVersion"]).split(".") if n.isdecimal())
    if version < _OLDEST:
        least = ".".join(map(str, _OLDEST))
        return f"the engine's API is {about['ApiVersion']}; {least} (Docker 20.10) is needed"
    return None
