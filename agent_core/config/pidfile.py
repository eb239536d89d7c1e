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
        InvalidConfig: when the file cannot be written.
    """
    if path is None or (path.exists() and not path.is_file()):
        yield
        return
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
