"""The models of what is in a node and its kernels: images, files, commits, services, commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from agent_core.wire.models import Model
from agent_core.wire.params import KernelParams, Params

CHUNK: Final = 256 << 10
"""Bytes of the longest piece of a file in one message."""

ImageName = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s\x00-\x1f]+$")]
InnerPath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
ServiceName = Annotated[str, Field(min_length=1, max_length=64)]


class ImageParams(Params):
    """Parameters of what is about one image."""

    name: ImageName


class PullProgress(Model):
    """How far one layer of an image is; `current` and `total` are bytes, None where not known."""

    layer: str = ""
    status: str = ""
    current: int | None = None
    total: int | None = None


class UploadFile(KernelParams):
    """Parameters of upload_file: one piece of a tar stream that is unpacked at `path`.

    The pieces of one upload bear the same `upload_id`, which the caller chooses, and are sent one
    after the other; the one that is `last` is answered once all is unpacked.
    """

    upload_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    path: InnerPath
    offset: Annotated[int, Field(ge=0)]
    data: Annotated[bytes, Field(max_length=CHUNK)] = b""
    last: bool = False


class UploadState(Model):
    """How many bytes of an upload the agent has taken, and whether all is unpacked."""

    taken: int
    done: bool


class PathParams(KernelParams):
    """Parameters of what is about one path in a kernel."""

    path: InnerPath


class FileChunk(Model):
    """A piece of a tar stream."""

    data: bytes


class FileRow(Model):
    """One file or directory: `mode` is its permission bits, `mtime` seconds since the epoch."""

    name: str
    kind: Literal["file", "directory", "link", "other"]
    size: int
    mode: int
    mtime: float


class CommitKernel(KernelParams):
    """Parameters of commit_kernel: the name of the image that is made, and of a file of it.

    The file is a path below the agent's ``image-commit-path`` that ends in ``.tar.gz``; none is
    written without it.
    """

    image: ImageName
    archive: Annotated[str, Field(max_length=512)] = ""


class CommitState(Model):
    """What became of the last commit of a kernel since the agent began.

    ``written`` is how many bytes of the image have gone into the archive so far, and ``size`` that
    of the archive once it is whole.
    """

    kernel_id: str
    status: Literal["none", "ongoing", "done", "failed"]
    image: str = ""
    digest: str = ""
    archive: str = ""
    written: int = 0
    size: int = 0
    began_at: float | None = None
    ended_at: float | None = None
    error: str = ""


SERVICE_READY: Final = 30.0
"""Seconds that a service has to answer after its start, unless its option ``timeout`` says more."""

SERVICE_PATIENCE: Final = 45.0
"""Seconds that a client waits for the start or the end of a service at the least."""


def start_patience(options: Mapping[str, str]) -> float:
    """Say how long a client waits for a start: longer than the service may take."""
    try:
        asked = float(options.get("timeout", 0))
    except ValueError:
        asked = 0.0  # the agent says what is wrong with it
    return max(SERVICE_PATIENCE, asked + SERVICE_PATIENCE - SERVICE_READY)


class StartService(KernelParams):
    """Parameters of start_service."""

    name: ServiceName
    options: dict[str, str] = Field(default_factory=dict)


class ServiceParams(KernelParams):
    """Parameters of what is about one service of a kernel."""

    name: ServiceName


class ModelRow(Model):
    """How a model service is: a status, why, and how often it was started again.

    ``restarts`` counts since it was last well for a minute.
    """

    status: Literal["starting", "healthy", "unhealthy", "failed", "stopped"]
    message: str = ""
    restarts: int = 0


class ServiceRow(Model):
    """One service of a kernel: its ports as the kernel sees them, and whether it was started.

    ``exit_code`` is that of one that was started and has ended by itself. ``model`` is how it is
    when it is a model service.
    """

    name: str
    protocol: str
    ports: list[int]
    running: bool
    exit_code: int | None = None
    model: ModelRow | None = None


class RunRow(Model):
    """One run of a kernel: how its code begins, when it ran, and how it ended.

    Times are seconds since the epoch by the kernel's clock; a run that waits has not started, and
    one without a ``status`` has not ended.
    """

    run_id: str
    mode: str
    code: str
    started_at: float | None = None
    ended_at: float | None = None
    status: str | None = None
    exit_code: int | None = None


class CallBackend(Params):
    """Parameters of call_backend: one of the backend's own commands, with plain data."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    params: dict[str, Any] = Field(default_factory=dict)


class CommandRow(Model):
    """One command of the backend's own."""

    name: str
    summary: str


class CommandResult(Model):
    """What a command of the backend answered."""

    values: dict[str, Any]
