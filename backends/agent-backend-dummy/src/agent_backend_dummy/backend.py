"""The dummy backend: the contract of container backends on a simulated runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from agent_backend_dummy.acting import ending_of
from agent_backend_dummy.commands import COMMANDS, run_command
from agent_backend_dummy.day import NOBODY, Day
from agent_backend_dummy.declaration import EDITS, FACTS, INFO
from agent_backend_dummy.engine import Container, Engine
from agent_backend_dummy.faults import Subject
from agent_backend_dummy.files import Files
from agent_backend_dummy.images import Images, refuse_malformed
from agent_backend_dummy.records import Record
from agent_backend_dummy.runner import DummyCodeRunner, DummyFakeCodeRunner
from agent_backend_dummy.settings import Settings, read_node, read_settings
from agent_backend_dummy.store import Store
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
    Presence,
)
from agent_core.contracts.edits import EDIT_FIELDS, ContainerEdits
from agent_core.contracts.errors import InternalError, NotFound, WrongState
from agent_core.contracts.info import EditTreatment, PluginInfo
from agent_core.contracts.runner import CodeRunner, RunnerContext

_INSIDE = Paths(scratch="/home", config="/home/config", runner="/opt/kernel", run="/run/kernel")
_TERMINATED = 143
_KILLED, _SIGKILL = 137, 9


class DummyBackend(ContainerBackend):
    """Containers that exist in a file alone."""

    info: ClassVar[PluginInfo] = INFO
    edits: ClassVar[Mapping[str, EditTreatment]] = EDITS
    brings_runner: ClassVar[bool] = True
    commands: ClassVar[Mapping[str, str]] = COMMANDS

    def __init__(self) -> None:
        self._settings = Settings()
        self._day = Day(self._settings)
        self._engine: Engine | None = None
        self._images: Images | None = None

    # ---- lifetime ----

    @classmethod
    def stand_ins(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """Make cpu and mem those of the simulated node.

        Raises:
            InvalidConfig: when they are not configured as they can be.
        """
        cores, memory = read_node(config)
        return {"cpu": {"cores": list(cores)}, "mem": {"size": memory}}

    def open(self, config: Mapping[str, Any]) -> None:
        """Read the configuration.

        Raises:
            InvalidConfig: when it has faults, all of them named.
        """
        self._settings = read_settings(config)
        self._day = Day(self._settings)

    async def start_up(self, owner: str, state_dir: str) -> None:
        """Take up the simulated runtime where it was left."""
        store = Store(Path(state_dir))
        engine = Engine(store, self._times_told)
        engine.open()
        self._engine, self._images = engine, Images(self._settings, store)

    async def shut_down(self) -> None:
        """Let go of the runtime; its containers go on."""
        if self._engine is not None:
            self._engine.close()
            self._engine.store.close()
            self._engine = self._images = None

    def facts(self) -> Mapping[str, str]:
        """Say what an operator should know."""
        runner = "DummyFakeCodeRunner" if self._settings.fake_runner else "DummyCodeRunner"
        return {**FACTS, "code-runner": runner}

    @property
    def engine(self) -> Engine:
        """The simulated runtime.

        Raises:
            InternalError: when it was not started up.
        """
        if self._engine is None:
            raise InternalError("the dummy backend was not started up")
        return self._engine

    @property
    def day(self) -> Day:
        """The delays and faults."""
        return self._day

    @property
    def images_here(self) -> Images:
        """The images.

        Raises:
            InternalError: when the backend was not started up.
        """
        if self._images is None:
            raise InternalError("the dummy backend was not started up")
        return self._images

    def paths(self, host: Paths) -> Paths:
        """Say where a simulated container would see the host's directories."""
        return _INSIDE

    def code_runner(self, context: RunnerContext) -> CodeRunner:
        """Make the code runner that is configured."""
        kind = DummyFakeCodeRunner if self._settings.fake_runner else DummyCodeRunner
        return kind(self._day, context)

    async def command(self, name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add, list or clear faults, and end containers."""
        return run_command(self, name, params)

    # ---- images and networks ----

    async def images(self) -> Sequence[Image]:
        """List the images that are here."""
        return await self._day.step("images", NOBODY, self.images_here.all, "scan-image")

    async def inspect_image(self, name: str) -> Image:
        """Look an image up."""
        look = self.images_here.inspect
        return await self._day.step("inspect-image", Subject(image=name), lambda: look(name))

    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Bring an image, telling of its layers."""
        images = self.images_here
        images.refuse_unknown(name)
        pulling = images.pull(name, self._day.delays.seconds("pull-image"))
        async for progress in self._day.stream("pull", Subject(image=name), pulling):
            yield progress

    async def push_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Send an image that is here, telling of its layers."""
        images = self.images_here
        images.inspect(name)
        pushing = images.pull(name, self._day.delays.seconds("push-image"))
        async for progress in self._day.stream("push", Subject(image=name), pushing):
            yield progress

    async def remove_image(self, name: str) -> None:
        """Remove an image; succeeds when it is not here."""
        purge = self.images_here.purge
        await self._day.step("purge", Subject(image=name), lambda: purge(name), "purge-images")

    async def create_network(self, name: str) -> None:
        """Create a network."""
        store = self.engine.store
        make = partial(store.put_name, "network", name)
        await self._day.step("create-network", NOBODY, make, "create-network")

    async def remove_network(self, name: str) -> None:
        """Remove a network; succeeds when there is none."""
        store = self.engine.store
        drop = partial(store.drop_name, "network", name)
        await self._day.step("remove-network", NOBODY, drop, "destroy-network")

    # ---- containers ----

    async def create(self, spec: ContainerSpec) -> None:
        """Create a container, in the time that its parts take."""
        kernel = str(spec.env.get("BACKENDAI_KERNEL_ID", ""))
        subject = Subject(kernel, spec.name, spec.image)
        parts = ("prepare-scratch", "prepare-ssh", "mount-krunner", "spawn")

        def make() -> None:
            if spec.name not in self.engine.containers:
                self.images_here.inspect(spec.image)
            self.engine.create(spec)

        await self._day.step("create", subject, make, *parts)

    async def start(self, name: str) -> None:
        """Start a container."""
        subject = self._subject(name)

        def begin() -> None:
            running = self.engine.find(name).state is ContainerState.RUNNING
            self.engine.start(name, None if running else self._day.doom(subject))

        await self._day.step("start", subject, begin, "start-container")

    async def stop(self, name: str, grace: float) -> None:
        """Ask a container to end, and kill it after the grace."""
        after = await self._day.before("stop", self._subject(name), "destroy-kernel")
        container = self.engine.containers.get(name)
        if container is not None and container.state is ContainerState.RUNNING:
            if container.act.on_stop is None:
                await asyncio.sleep(grace)
                self.engine.end(name, _KILLED, _SIGKILL)
            else:
                self.engine.end(name, container.act.on_stop)
        self._day.fail(after)

    async def kill(self, name: str) -> None:
        """Kill a container."""
        end = partial(self.engine.end, name, _KILLED, _SIGKILL)
        await self._day.step("kill", self._subject(name), end)

    async def remove(self, name: str) -> None:
        """Remove a container, killing it first."""
        remove = partial(self.engine.remove, name)
        await self._day.step("remove", self._subject(name), remove, "clean-kernel")

    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        """List the owner's containers, each with its record."""
        return await self._day.step("list", NOBODY, lambda: self._listed(owner))

    def _listed(self, owner: str) -> Sequence[ContainerStatus]:
        began = time.monotonic()
        return [_status(each, began) for each in self.engine.of(owner)]

    async def inspect(self, name: str) -> ContainerStatus:
        """Observe one container."""
        return await self._day.step("inspect", self._subject(name), lambda: self._seen(name))

    def _seen(self, name: str) -> ContainerStatus:
        began = time.monotonic()
        container = self.engine.containers.get(name)
        if container is None:
            ended = time.monotonic()
            return ContainerStatus(name, presence=Presence.ABSENT, began=began, ended=ended)
        return _status(container, began)

    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        """Yield what happens."""
        async for event in self.engine.events(cursor):
            yield event

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        """Yield what a container has printed, and with `follow` what it prints until it ends."""
        container = self.engine.find(name)
        await self._day.before("logs", self._subject(name), "get-logs")
        sent = 0
        while True:
            text, running = container.log(time.time()), container.state is ContainerState.RUNNING
            if text[sent:]:
                yield text[sent:]
            sent = max(sent, len(text))
            if not (follow and running):
                return
            await self.engine.next_word(container)

    async def handles(self, name: str) -> Handles:
        """Name nothing of the host: no process of it belongs to a simulated container."""
        await self._day.step("handles", self._subject(name), lambda: self._running(name))
        return Handles(init_pid=0, init_start_time=0)

    def _running(self, name: str) -> Container:
        container = self.engine.find(name)
        if container.state is not ContainerState.RUNNING:
            raise NotFound(f"container {name} does not run")
        return container

    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        """Compare the edits that a container was created with to those that were promised."""
        return await self._day.step(
            "verify", self._subject(name), lambda: self._compared(name, edits)
        )

    def _compared(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        had = self._running(name).edits
        if had is None or had == edits:
            return []
        differing = (each for each in EDIT_FIELDS if getattr(had, each) != getattr(edits, each))
        return [f"{each} is {getattr(had, each)!r}" for each in differing]

    # ---- files and commits ----

    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        """Run nothing: what `simulate` says ends so, and any other command at once with code 0.

        Raises:
            WrongState: when the container does not run.
        """

        def begin() -> tuple[float, ExitStatus]:
            state = self.engine.find(name).state
            if state is not ContainerState.RUNNING:
                raise WrongState(f"container {name} is {state}, and runs no commands")
            return ending_of(argv)

        seconds, status = await self._day.step("exec", self._subject(name), begin)
        await asyncio.sleep(seconds)
        return replace(status, finished_at=time.time())

    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        """Keep the files of a tar stream with the container."""
        files = self._files(name)
        after = await self._day.before("copy-in", self._subject(name), "accept-file")
        await files.unpack(path, tar)
        self._day.fail(after)

    async def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        """Yield what was copied in, as a tar stream."""
        files = self._files(name)
        delay = "download-single" if files.is_file(path) else "download-file"
        packed = files.pack(path)
        async for chunk in self._day.stream("copy-out", self._subject(name), packed, delay):
            yield chunk

    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        """List a directory of what was copied in."""
        look = partial(self._files(name).entries, path)
        return await self._day.step("list-files", self._subject(name), look, "list-files")

    def _files(self, name: str) -> Files:
        self.engine.find(name)
        store = self.engine.store
        spec = store.spec(name)
        return Files(store, name, spec["cwd"], spec.get("mounts", ()))

    async def commit(self, name: str, image: str) -> str:
        """Have an image of that name from now on, with the files of the container.

        Raises:
            InvalidArgument: when it is no name of an image.
            WrongState: when the container was never started.
        """
        refuse_malformed(image)
        container = self.engine.find(name)
        if container.state is ContainerState.CREATED:
            raise WrongState(f"container {name} was not started yet")
        make = partial(self.images_here.commit, name, image)
        return await self._day.step("commit", self._subject(name), make, "commit")

    # ---- who is concerned ----

    def _subject(self, name: str) -> Subject:
        container = self.engine.containers.get(name)
        if container is None:
            return Subject(container=name)
        return Subject(container.kernel, name, container.image)

    def _times_told(self, container: Container) -> int:
        return self._day.times_told(Subject(container.kernel, container.name, container.image))


def _status(container: Container, began: float) -> ContainerStatus:
    return ContainerStatus(
        container.name,
        container.owner,
        state=container.state,
        exit=container.exit,
        record=Record(container.record),
        began=began,
        ended=time.monotonic(),
    )
