"""The contract of container backends: what runs a kernel's processes.

A backend knows containers and nothing of kernels: all kernel semantics live in the core and are the
same for every backend. It is asynchronous, since it talks to a runtime. Names are chosen by the
core before a thing exists; every method is idempotent by that name, and giving back what is not
there succeeds. The backend stores the opaque `record` with each container and returns it in `list`,
so that a lost ledger can be rebuilt from what runs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import Unsupported
from agent_core.contracts.info import EditTreatment, Plugin, Support
from agent_core.contracts.runner import CodeRunner, RunnerContext

CAPABILITIES: Mapping[str, str] = {
    "isolation": "a container cannot see or touch the host's files and processes",
    "images.pull": "images can be fetched from a registry",
    "images.save": "an image can be written to a file",
    "networks": "containers can join networks of their own",
    "mounts": "directories of the host appear at other paths in the container",
    "limits.cpu": "the CPU time of a container is bounded",
    "limits.memory": "the memory of a container is bounded",
    "limits.pids": "the number of processes of a container is bounded",
    "devices": "device nodes can be withheld and given",
    "ports": "ports of a container are published on ports of the host",
    "kill.whole": "no process of a killed container can escape",
    "processes": "a container's processes are those of the host and can be measured",
    "exec": "a further process can be started in a running container",
    "copy": "files can be copied into and out of a container, and listed",
    "commit": "a container can be made into an image",
}
"""Every capability that a backend declares, and what it means."""


class ContainerState(StrEnum):
    """What a container is doing."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Presence(StrEnum):
    """What an observation says of one thing; unknown is not gone."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a container ended.

    Attributes:
        code: Exit code, 128 + signal when a signal ended it; None when nobody saw it.
        signal: The signal that ended it, if one did.
        oom: Whether the kernel's memory limit ended it.
        finished_at: Seconds since the epoch, or None when nobody saw it.
        observed: False when the end was inferred from the absence of the process.
    """

    code: int | None = None
    signal: int | None = None
    oom: bool = False
    finished_at: float | None = None
    observed: bool = True


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be started: labels and environment are the image's own."""

    name: str
    digest: str = ""
    architecture: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file in a container.

    Attributes:
        name: Its name within the directory that was listed.
        kind: file, directory, link or other.
        size: Bytes.
        mode: Permission bits.
        mtime: When it was changed, in seconds since the epoch.
    """

    name: str
    kind: str
    size: int
    mode: int
    mtime: float


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One port of a container that is reached at a port of the host.

    Attributes:
        name: The service behind it; a service may have several ports.
        protocol: What the service speaks: tcp, http, preopen, vnc or rdp; always over TCP.
        container_port: Where the service listens inside of the container.
        host_port: The port of the host, which the core keeps for this container alone.
        host_ip: The address of the host, or a wildcard for all of its addresses.
    """

    name: str
    protocol: str
    container_port: int
    host_port: int
    host_ip: str


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that is needed to create one container.

    Attributes:
        name: Chosen by the core, unique on the node; the key of every later call.
        owner: The agent's id; `list` is by owner.
        image: An image that `inspect_image` returned.
        argv: What to run; its first item is an absolute path. Empty when the backend brings its
            own code runner.
        env: The whole environment.
        cwd: Working directory on the container's side.
        edits: The merged edits of all plugins.
        record: Opaque, stored and returned as it is; never holds secrets.
        log_limit: Bytes of output to keep.
        ports: What is published on the host. A backend without the capability ``ports`` passes
            over them: the environment tells the processes to listen on the host's ports.
        user: ``uid:gid`` of the processes, as numbers; empty for whom the backend takes.
        hostname: The container's own host name, by which its peers on a network reach it; empty
            for any.
    """

    name: str
    owner: str
    image: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    edits: ContainerEdits = field(default_factory=ContainerEdits)
    record: Mapping[str, Any] = field(default_factory=dict)
    log_limit: int = 10 << 20
    ports: tuple[PublishedPort, ...] = ()
    user: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """One container as it was observed.

    Attributes:
        name: The name in its spec.
        owner: The owner in its spec.
        presence: Whether it exists; unknown when the runtime could not tell.
        state: What it does; None unless present.
        exit: How it ended; None unless exited.
        record: The record in its spec.
        began: Monotonic seconds when the observation began.
        ended: Monotonic seconds when the observation ended.
        reason: Why the presence is unknown.
    """

    name: str
    owner: str = ""
    presence: Presence = Presence.PRESENT
    state: ContainerState | None = None
    exit: ExitStatus | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Handles:
    """What the host's kernel knows of a running container.

    Attributes:
        init_pid: Its first process on the host.
        init_start_time: That process's start in clock ticks since boot (/proc/PID/stat field 22).
        cgroups: Its cgroup directory by controller; empty when it has none.
        pids: All its processes now.
    """

    init_pid: int
    init_start_time: int
    cgroups: Mapping[str, str] = field(default_factory=dict)
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BackendEvent:
    """Something happened to a container: `kind` is started or exited."""

    cursor: str
    kind: str
    name: str
    exit: ExitStatus | None = None


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a container sees what the host has.

    A backend that mounts maps host paths to fixed ones; one that cannot returns them unchanged.
    """

    scratch: str
    config: str
    runner: str
    run: str


class ContainerBackend(Plugin):
    """What a backend implements. Its `open` and `close` are followed by `start_up`, `shut_down`.

    Attributes:
        edits: What becomes of each field of ContainerEdits; what nobody declared is unknown.
        brings_runner: Whether `code_runner` makes the runners of its kernels. Otherwise the
            selected runner plugin is started in each container.
        commands: What `command` understands, with one line of help for each.
    """

    edits: ClassVar[Mapping[str, EditTreatment]] = {}
    brings_runner: ClassVar[bool] = False
    commands: ClassVar[Mapping[str, str]] = {}

    async def start_up(self, owner: str, state_dir: str) -> None:
        """Connect to the runtime; `state_dir` is the backend's own directory for this agent."""

    async def shut_down(self) -> None:
        """Disconnect; containers go on."""

    def capabilities(self) -> Mapping[str, Support]:
        """Say what this backend can do on this node, once it has started up.

        The default is what `info` declares; a backend that learns more of the node says more.
        """
        return self.info.capabilities

    def facts(self) -> Mapping[str, str]:
        """Say in words what an operator should know of this backend on this node."""
        return {}

    @classmethod
    def stand_ins(cls, config: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """Configure agent-core's own plugins for a node that is not this host, by plugin name.

        Pure, and asked of the class before any plugin is opened: ``{"cpu": {"cores": [0, 1]},
        "mem": {"size": 2**30}}`` are the cores and the memory of the node that this backend
        simulates. The default is none: the host is the node.
        """
        return {}

    def code_runner(self, context: RunnerContext) -> CodeRunner:
        """Make the code runner of one incarnation, where `brings_runner`; does no I/O yet."""
        raise Unsupported(f"backend {self.info.name!r} brings no code runner")

    async def command(self, name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what is particular to this backend, one of its `commands`; plain data both ways.

        Raises:
            InvalidArgument: when a parameter is wrong; what, and how it should be.
        """
        raise Unsupported(f"backend {self.info.name!r} has no command {name!r}")

    @abstractmethod
    def paths(self, host: Paths) -> Paths:
        """Say where a container will see these host directories."""
        raise NotImplementedError

    @abstractmethod
    async def images(self) -> Sequence[Image]:
        """List the images that can be started."""
        raise NotImplementedError

    @abstractmethod
    async def inspect_image(self, name: str) -> Image:
        """Look one image up.

        Raises:
            ImageNotFound: when there is none of that name; the hint names those that exist.
        """
        raise NotImplementedError

    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Fetch an image, yielding progress; the default says that this backend cannot.

        Each item has ``layer`` and ``status``, and where that is known ``current`` and ``total``
        bytes.

        Raises:
            ImageNotFound: when no registry has it; the hint says what to do.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot pull images")
        yield {}

    async def push_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Send an image to its registry, yielding progress as `pull_image` does."""
        raise Unsupported(f"backend {self.info.name!r} cannot push images")
        yield {}

    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        """Yield an image as a tar stream that an engine can load; by default it cannot.

        No piece is larger than a mebibyte.

        Raises:
            ImageNotFound: when there is none of that name.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot write images to files")
        yield b""

    async def remove_image(self, name: str) -> None:
        """Remove an image from this node; succeeds when it is not there."""
        raise Unsupported(f"backend {self.info.name!r} cannot remove images")

    async def create_network(self, name: str) -> None:
        """Create a network that containers can join by their edits; does nothing when it is there.

        The default says that this backend cannot.
        """
        raise Unsupported(f"backend {self.info.name!r} has no networks")

    async def remove_network(self, name: str) -> None:
        """Remove a network; succeeds when there is none."""

    @abstractmethod
    async def create(self, spec: ContainerSpec) -> None:
        """Create the container without starting it; does nothing when it exists.

        Raises:
            ImageNotFound: when its image is not there; nothing was taken.
            Conflict: when one of this name was created from another spec.
            Unsupported: when the edits need what this backend cannot do; nothing was taken.
        """
        raise NotImplementedError

    @abstractmethod
    async def start(self, name: str) -> None:
        """Start a created container; does nothing when it runs.

        The caller may go away in the middle, when its kernel is to end: `remove` comes next, and
        must find and end whatever becomes of the start.

        Raises:
            NotFound: when there is no such container.
            WrongState: when it has already ended.
        """
        raise NotImplementedError

    @abstractmethod
    async def stop(self, name: str, grace: float) -> None:
        """Ask the container to end, and kill it after `grace` seconds; returns once it is gone."""
        raise NotImplementedError

    @abstractmethod
    async def kill(self, name: str) -> None:
        """Kill every process of the container at once; returns once they are gone."""
        raise NotImplementedError

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Remove the container with its record and logs, killing it first where it runs.

        Raises:
            WrongState: when some process of it is still there; nothing was removed.
        """
        raise NotImplementedError

    @abstractmethod
    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        """List the owner's containers in all states, each with its record."""
        raise NotImplementedError

    @abstractmethod
    async def inspect(self, name: str) -> ContainerStatus:
        """Observe one container; absent and unknown are answers, not errors."""
        raise NotImplementedError

    @abstractmethod
    def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        """Yield what happens from the cursor on, or from now; never ends by itself."""
        raise NotImplementedError

    @abstractmethod
    def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        """Yield the container's output so far, and with `follow` what comes until it ends.

        Raises:
            NotFound: when there is no such container.
        """
        raise NotImplementedError

    @abstractmethod
    async def handles(self, name: str) -> Handles:
        """Name the host's own objects for a running container.

        Raises:
            NotFound: when it does not run.
        """
        raise NotImplementedError

    @abstractmethod
    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        """Compare what runs with what was asked; an empty list means that all is as promised.

        What the backend declared that it cannot enforce is not a difference.
        """
        raise NotImplementedError

    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        """Run a further process in the container to its end; by default this backend cannot.

        What it prints is read, so that it never waits for a reader, and belongs to nobody. One that
        cannot be started is a `KernelFailed`, or ends with 126 or 127 as in a shell.

        Raises:
            NotFound: when there is no such container.
            WrongState: when it does not run.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot exec")

    async def copy_in(self, name: str, path: str, tar: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream in the directory `path`; the default says that this backend cannot.

        Here and in `copy_out` and `list_files` a relative path starts at the working directory.
        The stream comes in pieces of any size; an error that it raises fails the copy.

        Raises:
            NotFound: when there is no such container or directory.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot copy files")

    def copy_out(self, name: str, path: str) -> AsyncIterator[bytes]:
        """Yield `path` as a tar stream; the default says that this backend cannot.

        Its members are named from the last part of the path on: ``er.bin`` of ``/deep/er.bin``,
        ``deep`` and ``deep/er.bin`` of ``/deep``. No piece is larger than a mebibyte.

        Raises:
            NotFound: when there is no such container, or nothing is there.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot copy files")

    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        """List a directory of the container; the default says that this backend cannot.

        Raises:
            NotFound: when there is no such container, or nothing is there.
            InvalidArgument: when it is no directory.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot list files")

    async def commit(self, name: str, image: str) -> str:
        """Make the container into an image with its files; the default says that it cannot.

        Returns the digest that `inspect_image` tells of it.

        Raises:
            InvalidArgument: when `image` is no name of an image; nothing was made.
            NotFound: when there is no such container.
        """
        raise Unsupported(f"backend {self.info.name!r} cannot commit")
