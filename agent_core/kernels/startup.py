"""What a kernel is to do by itself: a script before anything else, and a command to run once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_core.kernels.dotfiles import is_encodable

LARGEST: Final = 64 << 10
"""The most bytes of a startup command, and of a bootstrap script."""

BOOTSTRAP: Final = "bootstrap.sh"
"""Where the bootstrap script is, in the work directory."""

_LONGEST_TIMEOUT: Final = 1e9

COMMAND: Final = "startup_command"
"""The field that makes a session a batch."""

FIELDS: Final[Mapping[str, str]] = {
    COMMAND: "a shell command to run once; the kernel ends with it: a batch session",
    "startup_timeout": "seconds that it may run; unlimited when absent",
    "bootstrap_script": "a script that is run at each start, before any code of the user's",
}
"""The fields of a specification that are read here, and what each means."""


@dataclass(frozen=True, slots=True)
class Startup:
    """What a kernel does by itself.

    Attributes:
        command: What is run once; the kernel ends with it. Empty for an interactive kernel.
        timeout: Seconds that it may run; None for no bound.
        bootstrap: The script that is run before; it may hold secrets, so no message shows it.
    """

    command: str = ""
    timeout: float | None = None
    bootstrap: str = field(default="", repr=False)

    def to_data(self) -> dict[str, Any]:
        """Render as plain JSON data, without what is not asked for."""
        values = (self.command, self.timeout, self.bootstrap)
        return {name: value for name, value in zip(FIELDS, values, strict=True) if value}


NOTHING: Final = Startup()
"""That of a kernel which waits for what it is asked."""


def read_startup(data: Mapping[str, Any]) -> tuple[Startup, list[str]]:
    """Read the fields of a caller's specification; return what is without fault, and the faults."""
    faults = list(_faults_of(data))
    if faults:
        return NOTHING, faults
    timeout = data.get("startup_timeout")
    return Startup(
        data.get(COMMAND) or "",
        None if timeout is None else float(timeout),
        data.get("bootstrap_script") or "",
    ), []


def _faults_of(data: Mapping[str, Any]) -> Iterator[str]:
    yield from _faults_of_text(COMMAND, data.get(COMMAND))
    yield from _faults_of_text("bootstrap_script", data.get("bootstrap_script"))
    timeout = data.get("startup_timeout")
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        yield f"startup_timeout: {timeout!r} is not a number of seconds"
    elif math.isnan(timeout) or not 0 < timeout < _LONGEST_TIMEOUT:
        yield f"startup_timeout: {timeout!r} is not between 0 and {_LONGEST_TIMEOUT:.0e} seconds"
    elif data.get(COMMAND) is None:
        yield "startup_timeout: there is no startup_command that it could bound"


def _faults_of_text(name: str, value: object) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, str) or not value.strip():
        yield f"{name}: not a text with something in it"
    elif "\0" in value:
        yield f"{name}: has a NUL character"
    elif not is_encodable(value):
        yield f"{name}: has a character that is none"
    elif len(value.encode()) > LARGEST:
        yield f"{name}: larger than {LARGEST >> 10} KiB"
