"""The pid file that a service manager reads: ``[agent] pid-file``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from agent_core.contracts.errors import InvalidConfig


@contextlib.contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Hold a file with this process's pid; enter it once the state directory is locked.

    What is there and is no regular file, such as /dev/null, is left as it is.

    Raises:
        InvalidConfig: when the file cannot be written, or is that of another agent which runs.
    """
    if path is None or (path.exists() and not path.is_file()):
        yield
        return
    if (other := _other_agent(path)) is not None:
        raise InvalidConfig(
            f"the pid file {path} is that of the agent with pid {other}, which runs",
            hint="Give each agent a pid-file of its own in its configuration.",
        )
    text = f"{os.getpid()}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as exc:
        raise InvalidConfig(
            f"cannot write the pid file {path}: {exc.strerror}",
            hint="Set [agent] pid-file to a path that the agent can write, or leave it out.",
        ) from exc
    try:
        yield
    finally:
        # Another agent that was given the same file may have replaced it.
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                path.unlink()


def _other_agent(path: Path) -> int | None:
    """Find the agent that a pid file names, if it runs; a number that came to others is none."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        is_agent = any(b"agentctl" in word or b"agent_core" in word for word in words)
        if pid != os.getpid() and is_agent and b"serve" in words:
            return pid
    return None
