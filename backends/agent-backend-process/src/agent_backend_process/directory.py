"""One container on disk: what was asked, who runs, how it ended.

    <state_dir>/containers/<name>/
        spec.json       what was asked, without environment or command; written by the agent
        launch          what the shim needs to start the main process; written by the agent
        control         a FIFO: orders to the shim; nobody reads it once the shim is gone
        lock            locked by the shim for its whole life
        identity.json   shim, main process and boot id; written by the shim before any user's code
        exit.json       how it ended; written when no process of the container is left
        log/            the bounded output
        shim.err        what the shim had to say of itself

A directory is made under another name and renamed when complete, and renamed again before it is
removed; so what has the container's name is always whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent_backend_process import records
from agent_backend_process.processes import Process
from agent_core.contracts.backend import ExitStatus

MARKER = "AGENT_CONTAINER_DIR"
"""Environment variable of every process of a container: its directory, unique on the host."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the agent writes of a container when it creates it.

    Attributes:
        name: The container's name.
        owner: The agent's id.
        image: The image's name.
        record: The core's opaque record.
        fingerprint: A digest of the whole spec, to tell the same create from another.
        log_limit: Bytes of output to keep.
        cgroups: Its cgroup directory by controller.
        kill_group: The cgroup by which everything is killed; empty when there is none.
        files: Files that were written for it outside this directory.
    """

    name: str
    owner: str
    image: str
    record: Mapping[str, Any]
    fingerprint: str
    log_limit: int
    cgroups: Mapping[str, str] = field(default_factory=dict)
    kill_group: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who runs: the shim and the main process, and in which boot of the host."""

    shim: Process
    main: Process
    boot_id: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended; `failure` says where and why a main process never began."""

    status: ExitStatus
    failure: str = ""


class ContainerDirectory:
    """Reads and writes the files of one container; blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The container's name."""
        return self.path.name

    @property
    def marker(self) -> str:
        """The environment entry by which its processes are known."""
        return f"{MARKER}={self.path}"

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.path}/{name}"

    def exists(self) -> bool:
        """Say whether the container was created and not removed."""
        return self.path.is_dir()

    def write(self, stored: Stored, launch: bytes) -> None:
        """Write all that a container has before it starts."""
        content = json.dumps({"version": 1, **asdict(stored)}).encode()
        for name, data in (("spec.json", content), (records.LAUNCH, launch), (records.LOCK, b"")):
            records.replace_file(self.file(name), data)
        os.mkfifo(self.file(records.CONTROL), 0o600)

    def stored(self) -> Stored:
        """Read what was asked.

        Raises:
            FileNotFoundError: when there is no such container.
            ValueError: when the file is not readable as what `write` wrote.
        """
        data = self._load("spec.json")
        if data is None:
            raise FileNotFoundError(f"{self.path} has no spec.json")
        try:
            data.pop("version")
            return Stored(**{**data, "files": tuple(data["files"])})
        except (TypeError, KeyError) as exc:
            raise ValueError(f"{self.path}/spec.json lacks {exc}") from exc

    def identity(self) -> Identity | None:
        """Read who runs; None when the main process was never let go."""
        data = self._load(records.IDENTITY)
        if data is None:
            return None
        try:
            shim, main = ((int(p), int(s)) for p, s in (data["shim"], data["main"]))
            return Identity(shim, main, str(data["boot_id"]))
        except (TypeError, KeyError) as exc:
            raise ValueError(f"{self.path}/{records.IDENTITY} lacks {exc}") from exc

    def ending(self) -> Ending | None:
        """Read how it ended; None when nobody has recorded that."""
        data = self._load(records.EXIT)
        if data is None:
            return None
        failure = str(data.pop("failure", ""))
        try:
            return Ending(ExitStatus(**data), failure)
        except TypeError as exc:
            raise ValueError(f"{self.path}/{records.EXIT}: {exc}") from exc

    def record_inferred_exit(self) -> None:
        """Write down that it ended and nobody saw how."""
        record = records.exit_record(None, None, None, observed=False)
        records.replace_file(self.file(records.EXIT), record)

    def complaints(self) -> str:
        """Return the end of what the shim said of itself."""
        try:
            return Path(self.file(records.ERRORS)).read_text(errors="replace")[-2000:].strip()
        except OSError:
            return ""

    def order(self, order: str) -> bool:
        """Give the shim an order; False when no shim reads."""
        try:
            fd = os.open(self.file(records.CONTROL), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return os.write(fd, f"{order}\n".encode()) > 0
        except OSError:
            return False
        finally:
            os.close(fd)

    def _load(self, name: str) -> dict[str, Any] | None:
        try:
            content = Path(self.file(name)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise ValueError(f"{self.path}/{name}: {exc}") from exc
        data = json.loads(content)
        if not isinstance(data, dict):
            message = f"{self.path}/{name} is not a JSON object"
            raise ValueError(message)  # noqa: TRY004 - a fault of the content, like bad JSON
        return data
