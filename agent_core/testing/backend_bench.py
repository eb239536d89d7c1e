"""The bench on which backends are tested: one at work, and the containers made for one test."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pytest

from agent_core.contracts.backend import (
    BackendEvent,
    ContainerBackend,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
)
from agent_core.contracts.info import Support
from agent_core.testing.backend_scripts import READY


@dataclass(frozen=True, slots=True)
class Setting:
    """What every container of a suite has in common.

    Attributes:
        backend: Makes a backend that is not yet open.
        config: What it is opened with.
        state_dir: The directory that it is started on.
        image: The image of all containers.
        env: The environment of all containers.
        cwd: The working directory of all containers.
        deadline: Seconds that one check may take.
    """

    backend: Callable[[], ContainerBackend]
    config: Mapping[str, Any]
    state_dir: Path
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    deadline: float = 30.0

    def run(self, check: Callable[[Bench], Awaitable[None]]) -> None:
        """Run one check against a backend of its own; all it made is removed afterwards."""

        async def whole() -> None:
            async with asyncio.timeout(self.deadline), Bench(self) as bench:
                await check(bench)

        asyncio.run(whole())


def at_work(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine that takes a bench; pytest sees one that takes a `setting`."""

    def run(*suite: object, setting: Setting, **arguments: Any) -> None:
        setting.run(lambda bench: test(*suite, bench=bench, **arguments))

    seen = inspect.signature(test)
    parameters = [
        p.replace(name="setting") if p.name == "bench" else p for p in seen.parameters.values()
    ]
    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    run.__module__ = test.__module__
    run.__signature__ = seen.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


class Bench:
    """A backend at work for one test, and the containers made for it."""

    def __init__(self, setting: Setting) -> None:
        self.owner = f"conformance-{uuid.uuid4().hex[:12]}"
        self.backend: ContainerBackend
        self.setting = setting
        self._count = 0

    async def __aenter__(self) -> Self:
        self.backend = await self.opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        for seen in await self.backend.list(self.owner):
            await self.backend.remove(seen.name)
        await self.backend.shut_down()
        self.backend.close()

    async def opened(self) -> ContainerBackend:
        """Open another backend on the same state, as an agent that starts again does."""
        backend = self.setting.backend()
        backend.open(self.setting.config)
        await backend.start_up(self.owner, str(self.setting.state_dir))
        return backend

    def name(self) -> str:
        """Choose a name that no container has had."""
        self._count += 1
        return f"{self.owner}-{self._count}"

    def spec(self, argv: tuple[str, ...], **changes: Any) -> ContainerSpec:
        """Make a spec for a command; `env` is laid over that of the setting."""
        common = self.setting
        env = {**common.env, **changes.pop("env", {})}
        spec = ContainerSpec(self.name(), self.owner, common.image, argv, env, common.cwd)
        return replace(spec, **changes)

    async def created(self, argv: tuple[str, ...], **changes: Any) -> ContainerSpec:
        """Create a container."""
        spec = self.spec(argv, **changes)
        await self.backend.create(spec)
        return spec

    async def started(self, argv: tuple[str, ...], **changes: Any) -> ContainerSpec:
        """Create and start a container."""
        spec = await self.created(argv, **changes)
        await self.backend.start(spec.name)
        return spec

    async def ready(self, argv: tuple[str, ...], **changes: Any) -> ContainerSpec:
        """Create and start a container, and wait until it says that it is ready."""
        spec = await self.started(argv, **changes)
        text = ""
        async with _closing(self.backend.logs(spec.name, follow=True)) as log:
            async for chunk in log:
                text += chunk.decode()
                if READY in text:
                    return spec
        raise AssertionError(f"the container ended before it was ready, having said {text!r}")

    async def inspect(self, spec: ContainerSpec) -> ContainerStatus:
        """Observe a container."""
        return await self.backend.inspect(spec.name)

    async def ended(self, spec: ContainerSpec) -> ContainerStatus:
        """Wait for a container's end, and observe it."""
        async for _ in self.backend.logs(spec.name, follow=True):
            pass
        while (seen := await self.inspect(spec)).state is ContainerState.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a log may end just before its container does
        return seen

    async def text(self, spec: ContainerSpec, *, follow: bool = False) -> str:
        """Read a container's log."""
        chunks = [chunk async for chunk in self.backend.logs(spec.name, follow=follow)]
        return b"".join(chunks).decode()

    async def processes(self, spec: ContainerSpec, at_least: int) -> dict[int, int | None]:
        """Wait for so many processes of a container; returns their start times by pid."""
        while True:
            pids = (await self.backend.handles(spec.name)).pids
            if len(pids) >= at_least:
                return {pid: start_time(pid) for pid in pids}
            await asyncio.sleep(0.01)  # a shell tells nobody when its children have begun

    @contextlib.asynccontextmanager
    async def pulse(self) -> AsyncIterator[Callable[[], int]]:
        """Beat every 50 ms meanwhile; yields the count, which stands still with the event loop."""
        count = 0

        async def beat() -> None:
            nonlocal count
            while True:
                await asyncio.sleep(0.05)
                count += 1

        beating = asyncio.create_task(beat())
        try:
            yield lambda: count
        finally:
            beating.cancel()

    @contextlib.asynccontextmanager
    async def events(
        self, cursor: str | None
    ) -> AsyncIterator[Callable[[ContainerSpec], Awaitable[BackendEvent]]]:
        """Listen to the events; yields a function that waits for a container's next one."""
        queue: asyncio.Queue[BackendEvent] = asyncio.Queue()
        source = self.backend.events(cursor)

        async def listen() -> None:
            async for event in source:
                queue.put_nowait(event)

        async def told(spec: ContainerSpec) -> BackendEvent:
            while True:
                coming = asyncio.ensure_future(queue.get())
                await asyncio.wait({coming, listener}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    raise AssertionError("the events ended") from listener.exception()
                if (event := coming.result()).name == spec.name:
                    return event

        listener = asyncio.create_task(listen())
        await asyncio.sleep(0)  # the listener has begun before anything happens
        try:
            yield told
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            if not listener.cancelled() and listener.exception():
                raise AssertionError("listening to the events failed") from listener.exception()


@contextlib.asynccontextmanager
async def _closing(source: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close what was left early, where it can be: a generator would linger otherwise."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


def needs(bench: Bench, capability: str) -> None:
    """Skip a check where the backend declares that it lacks what the check is about."""
    if bench.backend.capabilities().get(capability) is not Support.YES:
        pytest.skip(f"this backend declares that it lacks {capability}")


async def every(items: AsyncIterator[object]) -> list[object]:
    """Collect what an iterator yields to its end."""
    return [item async for item in items]


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()


def start_time(pid: int) -> int | None:
    """Return a living process's start time in clock ticks since boot, or None."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def living(processes: Mapping[int, int | None]) -> list[int]:
    """List those of these processes that still live; another with the same pid does not count."""
    return [p for p, start in processes.items() if start is not None and start_time(p) == start]


def marked(mark: str) -> list[int]:
    """List the processes that were started with this mark in their environment."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and mark.encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found
