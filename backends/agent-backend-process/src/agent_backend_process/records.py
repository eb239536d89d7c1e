"""What the shim leaves on disk for any agent to find: who runs, and how it ended.

Every record is written beside its place and renamed into it, so that a reader finds all of it or
nothing. This module is shared with the shim, which has no time to import a JSON encoder.
"""

# pathlib doubles the time that the shim takes to start.
# ruff: noqa: PTH104
from __future__ import annotations

import os

IDENTITY = "identity.json"
"""Shim and main process: ``{"shim": [pid, start], "main": [pid, start], "boot_id": ...}``."""
EXIT = "exit.json"
"""How the main process ended; written when no process of the container is left."""
LAUNCH = "launch"
CONTROL = "control"
LOCK = "lock"
LOG = "log"
ERRORS = "shim.err"


def replace_file(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole, or not at all."""
    fresh = f"{path}.{os.urandom(6).hex()}"  # others may be writing the same
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
    os.rename(fresh, path)


def identity_record(shim: tuple[int, int], main: tuple[int, int], boot_id: str) -> bytes:
    """Render who runs."""
    text = '{"shim": [%d, %d], "main": [%d, %d], "boot_id": "%s"}\n'
    return (text % (*shim, *main, boot_id)).encode()


def exit_record(
    code: int | None,
    signal: int | None,
    finished_at: float | None,
    *,
    oom: bool = False,
    observed: bool = True,
    failure: str = "",
) -> bytes:
    """Render an end; `failure` is the stage and errno of a main process that never began."""
    text = (
        f'{{"code": {_json(code)}, "signal": {_json(signal)}, "finished_at": {_json(finished_at)}, '
        f'"oom": {_json(oom)}, "observed": {_json(observed)}, "failure": "{failure}"}}\n'
    )
    return text.encode()


def _json(value: float | None) -> str:
    if value is None:
        return "null"
    return str(value).lower()
