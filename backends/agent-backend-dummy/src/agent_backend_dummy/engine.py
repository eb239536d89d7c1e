"""The simulated runtime: containers that are created, started, ended and removed, and their events.

What is here follows the store, never the other way round: a killed agent loses nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from agent_backend_dummy.acting import Act, act_of
from agent_backend_dummy.images import files_of
from agent_backend_dummy.store import Row, Store
from agent_core.contracts.backend import BackendEvent, ContainerSpec, ContainerState, ExitStatus
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import Conflict, InvalidArgument, NotFound, WrongState

_PAGE: Final = 500
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
KERNEL_VARIABLE: Final = "BACKENDAI_KERNEL_ID"


class Container:
    """One simulated container; what it was created from lies in the store."""

    __slots__ = (
        *("act", "digest", "due", "edits", "ending", "exit"),
        *("image", "kernel", "log_limit", "name", "owner", "record", "started", "state"),
    )

    def __init__(self, name: str, owner: str, spec: Mapping[str, Any], digest: int) -> None:
        self.name = name
        self.owner = owner
        self.digest = digest
        self.record = spec["record"]
        self.image = str(spec["image"])
        self.kernel = str(spec["env"].get(KERNEL_VARIABLE, ""))
        self.log_limit = int(spec["log_limit"])
        self.act: Act = act_of(spec["argv"], spec["env"], spec["cwd"])
        self.edits: ContainerEdits | None = None
        self.state = ContainerState.CREATED
        self.started: float | None = None
        self.exit: ExitStatus | None = None
        self.due: float | None = None
        self.ending: ExitStatus | None = None

    def log(self, now: float) -> bytes:
        """Return what it has printed so far."""
        if self.started is None:
            return b""
        end = self.exit.finished_at if self.exit and self.exit.finished_at else now
        return self.act.printed(min(now, end) - self.started, self.log_limit)


def _once(_container: Container) -> int:
    return 1


class Engine:
    """Every container of one simulated runtime.

    Args:
        store: Where they are kept.
        times_told: Says how often an event of a container is told.

    Attributes:
        containers: By name.
        store: Where they are kept.
    """

    def __init__(self, store: Store, times_told: Callable[[Container], int] = _once) -> None:
        self.store = store
        self._times_told = times_told
        self.containers: dict[str, Container] = {}
        self._due: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pulse = asyncio.Event()

    # ---- lifetime ----

    def open(self) -> None:
        """Take up what is stored; what fell due while nobody looked has ended then."""
        for row in self.store.rows():
            self._restore(row)
        self._watch()

    def _restore(self, row: Row) -> None:
        spec = json.loads(row.spec)
        container = Container(row.name, row.owner, spec, _digest(spec))
        container.state, container.started, container.exit = row.state, row.started, row.exit
        container.due, container.ending = row.due, row.ending
        self.containers[row.name] = container
        if row.due is not None:
            heapq.heappush(self._due, (row.due, row.name))

    def close(self) -> None:
        """Look at nothing any more; the containers stay as they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- containers ----

    def find(self, name: str) -> Container:
        """Find a container.

        Raises:
            NotFound: when there is none of that name.
        """
        container = self.containers.get(name)
        if container is None:
            raise NotFound(f"there is no container {name}")
        return container

    def create(self, spec: ContainerSpec) -> None:
        """Create a container; one that was created from the same is left as it is.

        Raises:
            Conflict: when there is another of that name.
        """
        stored = _stored(spec)
        digest = _digest(stored)
        there = self.containers.get(spec.name)
        if there is not None:
            if there.digest != digest:
                raise Conflict(f"container {spec.name} was created from another specification")
            return
        self.store.add(spec.name, spec.owner, stored, files_of(spec.image))
        container = Container(spec.name, spec.owner, stored, digest)
        container.edits = spec.edits
        self.containers[spec.name] = container

    def start(self, name: str, doom: tuple[float, ExitStatus] | None = None) -> None:
        """Start a container; one that runs is left as it is.

        Args:
            name: Its name.
            doom: After how many seconds it ends by itself, and how, whatever its command line says.

        Raises:
            NotFound: when there is none.
            WrongState: when it has ended.
            InvalidArgument: when its command cannot be started.
        """
        container = self.find(name)
        if container.state is ContainerState.RUNNING:
            return
        if container.state is ContainerState.EXITED:
            raise WrongState(f"container {name} has ended and cannot be started again")
        if not container.act.starts:
            raise InvalidArgument(f"the command of container {name} is not there")
        now = time.time()
        doom = doom or container.act.ends
        due = None if doom is None else now + doom[0]
        ending = None if doom is None else doom[1]
        with self.store.together():
            self.store.started(name, now, due, ending)
            self._tell("started", container, None)
        container.state, container.started = ContainerState.RUNNING, now
        container.due, container.ending = due, ending
        if due is not None:
            self._schedule(due, name)

    def doom(self, name: str, seconds: float, ending: ExitStatus) -> None:
        """Let a running container end after some seconds.

        Raises:
            NotFound: when there is none.
            WrongState: when it does not run.
        """
        container = self.find(name)
        if container.state is not ContainerState.RUNNING:
            raise WrongState(f"container {name} is {container.state}, and only a running one ends")
        container.due, container.ending = time.time() + seconds, ending
        self.store.doomed(name, container.due, ending)
        self._schedule(container.due, name)

    def end(self, name: str, code: int | None, signal: int | None = None) -> None:
        """End a running container now; any other is left as it is."""
        container = self.containers.get(name)
        if container is not None and container.state is ContainerState.RUNNING:
            self._ended(container, ExitStatus(code, signal), time.time())

    def remove(self, name: str) -> None:
        """Remove a container, ending it first; succeeds when there is none."""
        if name in self.containers:
            self.end(name, 137, 9)
            self.store.remove(name)
            del self.containers[name]

    def _ended(self, container: Container, status: ExitStatus, at: float) -> None:
        status = ExitStatus(status.code, status.signal, status.oom, at)
        with self.store.together():
            self.store.ended(container.name, status)
            self._tell("exited", container, status)
        container.state, container.exit = ContainerState.EXITED, status
        container.due = container.ending = None

    # ---- what falls due ----

    def _schedule(self, due: float, name: str) -> None:
        heapq.heappush(self._due, (due, name))
        self._watch()

    def _watch(self) -> None:
        now = time.time()
        while self._due and self._due[0][0] <= now:
            due, name = heapq.heappop(self._due)
            container = self.containers.get(name)
            # It may have ended otherwise, or have been told to end at another time.
            if container is not None and container.due == due and container.ending is not None:
                self._ended(container, container.ending, due)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            pause = max(self._due[0][0] - now, 0.0)
            self._timer = asyncio.get_running_loop().call_later(pause, self._watch)

    # ---- events ----

    def _tell(self, kind: str, container: Container, status: ExitStatus | None) -> None:
        for _ in range(self._times_told(container)):
            self.store.tell(kind, container.name, status)
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        """Yield the events after a cursor, or from now on, for ever.

        Raises:
            InvalidArgument: when the cursor is none.
        """
        if cursor is not None and not cursor.isdecimal():
            raise InvalidArgument(f"{cursor!r} is not a cursor of the simulated runtime")
        position = self.store.last_event() if cursor is None else int(cursor)
        while True:
            pulse = self._pulse
            page = self.store.events(position, _PAGE)
            for position, event in page:  # noqa: B007 - the last one is where it goes on
                yield event
            if not page:
                await pulse.wait()

    async def next_word(self, container: Container) -> None:
        """Wait until a container prints something more, or anything starts or ends."""
        pulse, seconds = self._pulse, time.time() - (container.started or time.time())
        at = container.act.next_print(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if at is None else at - seconds):
                await pulse.wait()

    def of(self, owner: str) -> Iterator[Container]:
        """Yield an owner's containers."""
        return (each for each in [*self.containers.values()] if each.owner == owner)


def _stored(spec: ContainerSpec) -> dict[str, Any]:
    """Choose what is kept of a specification; its edits are the core's to remember."""
    return {
        "image": spec.image,
        "argv": list(spec.argv),
        "env": dict(spec.env),
        "cwd": spec.cwd,
        # As text, which weighs a tenth of what it says: thousands lie in memory.
        "record": _encode(spec.record),
        "log_limit": spec.log_limit,
        "mounts": [mount.target for mount in spec.edits.mounts],
    }


def _digest(stored: Mapping[str, Any]) -> int:
    return hash((stored["image"], *stored["argv"], *sorted(stored["env"].items()), stored["cwd"]))
