"""Where a configuration comes from: a file, the environment, the command line.

Nothing here knows the model, so that commands which need three keys do not pay for all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent_core.config.faults import Fault, invalid
from agent_core.config.vocabulary import SHORT_VARIABLES, KeyPath

FILE_LIMIT: Final = 1 << 20
"""Bytes of the largest configuration file that is read."""

FILE_VARIABLES: Final = ("AGENT_CONFIG_FILE", "BACKEND_CONFIG_FILE")
"""Variables that name the file, best first."""

PREFIX: Final = "AGENT_"
DELIMITER: Final = "__"


class Layer(NamedTuple):
    """One source and what it says; a later layer goes over an earlier one.

    Attributes:
        name: The file's path, ``$VARIABLE`` or ``command line``.
        tree: Nested tables with kebab-case keys.
        base: Where relative paths of this source start.
        text: The file's text, for line numbers; empty otherwise.
    """

    name: str
    tree: Mapping[str, Any]
    base: Path
    text: str = ""

    @property
    def group(self) -> str:
        """What this layer belongs to: all variables are one environment."""
        return "environment" if self.name.startswith("$") else self.name


def search_order(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the places where a configuration file is looked for, best first."""
    yield Path("agent.toml")
    home = environ.get("HOME")
    if home:
        yield Path(home, ".config/backend.ai/agent.toml")
        yield Path(home, ".config/agent-core/agent.toml")
    yield Path("/etc/backend.ai/agent.toml")


def find_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Choose the file: the one named, that of a variable, or the first that exists; else None."""
    if path is not None:
        return path
    for name in FILE_VARIABLES:
        if environ.get(name):
            return Path(environ[name])
    return next((place for place in search_order(environ) if os.path.lexists(place)), None)


def read_file(path: Path) -> Layer:
    """Read one TOML file.

    Raises:
        InvalidConfig: when it cannot be read, is too large, not UTF-8 or not TOML.
    """
    # tomllib compiles its patterns at import; without a file nobody needs it.
    import tomllib

    text = _decoded(path, _bytes_of(path))
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise invalid([_syntax_fault(path, text, str(exc))]) from exc
    except RecursionError as exc:
        raise invalid([Fault(str(path), None, "", "is nested too deeply")]) from exc
    return Layer(str(path), tree, path.absolute().parent, text)


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise invalid([_no_file_fault(path)])
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as exc:
        what = f"cannot be read: {exc.strerror or exc}"
        raise invalid([Fault(str(path), None, "", what)]) from exc
    if len(data) > FILE_LIMIT:
        raise invalid([Fault(str(path), None, "", f"is larger than {FILE_LIMIT} bytes")])
    return data


def _no_file_fault(path: Path) -> Fault:
    if path.is_dir():
        return Fault(str(path), None, "", "is a directory", f"name the file: {path}/agent.toml")
    if path.exists():
        return Fault(str(path), None, "", "is not a regular file")
    return Fault(str(path), None, "", "does not exist")


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        fault = Fault(str(path), line, "", "is not UTF-8", "save the file in UTF-8")
        raise invalid([fault]) from exc


def _syntax_fault(path: Path, text: str, message: str) -> Fault:
    what, _, place = message.partition(" (at ")
    if place.startswith("line "):
        return Fault(str(path), int(place.split()[1].strip(",)")), "", f"is not TOML: {what}")
    return Fault(str(path), text.count("\n") + 1, "", f"is not TOML: {what}")


def variables(environ: Mapping[str, str]) -> dict[str, KeyPath]:
    """Find the variables that set keys: ``AGENT_AGENT__ID`` sets ``[agent] id``."""
    found = {}
    for name in environ:
        if name.upper().startswith(PREFIX) and DELIMITER in name:
            parts = name[len(PREFIX) :].lower().split(DELIMITER)
            found[name] = tuple(part.replace("_", "-") for part in parts)
    return found


def sets_keys(environ: Mapping[str, str]) -> bool:
    """Tell whether any variable sets a key."""
    return bool(variables(environ)) or any(name in environ for name in SHORT_VARIABLES)


def nested(path: KeyPath, value: object) -> dict[str, Any]:
    """Wrap a value into the tables that lead to it."""
    for part in reversed(path[1:]):
        value = {part: value}
    return {path[0]: value}


def overrides_layers(overrides: Mapping[str, object]) -> list[Layer]:
    """Build the layers of the command line from dotted keys such as ``agent.id``."""
    here = Path.cwd()
    return [
        Layer("command line", nested(tuple(key.split(".")), value), here)
        for key, value in overrides.items()
    ]
