"""The images of this backend: interpreters that are found on the host, or configured.

[plugin.process.images]
julia = "/opt/julia/bin/julia"
numpy = { path = "/opt/numpy/bin/python", type = "python" }
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_core.contracts.backend import Image
from agent_core.contracts.errors import ImageNotFound, InvalidConfig, bullet_list

RUNTIME_TYPE = "ai.backend.runtime-type"
RUNTIME_PATH = "ai.backend.runtime-path"

_SHELLS = ("bash", "sh")
_PYTHON = re.compile(r"python3\.\d+")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Interpreters:
    """The interpreters of this host; looks at the disk when asked, starts nothing."""

    def __init__(self, configured: Mapping[str, Any] | None = None) -> None:
        self._configured = dict(_parse(configured or {}))

    def images(self) -> list[Image]:
        """List all, by name."""
        names = {*self._configured, "python", *_SHELLS, *_pythons_on_path()}
        return [image for name in sorted(names) if (image := self._image(name)) is not None]

    def find(self, name: str) -> Image:
        """Look one up.

        Raises:
            ImageNotFound: when there is none of that name.
        """
        image = self._image(name)
        if image is None:
            raise self._not_found(name)
        return image

    def _image(self, name: str) -> Image | None:
        path, runtime = self._configured.get(name) or (_find(name), _type_of(name))
        return None if path is None else _describe(name, path, runtime)

    def _not_found(self, name: str) -> ImageNotFound:
        import difflib  # only a mistake needs it

        names = [image.name for image in self.images()]
        near = difflib.get_close_matches(name.partition(":")[0], names, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        hint += f"This host has: {', '.join(names)}. Add others in [plugin.process.images]."
        if ":" in name:
            hint = f"An interpreter has no tag. {hint}"
        return ImageNotFound(f"no interpreter {name!r} on this host", hint=hint)


def _parse(configured: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Read the configured images, path and type by name; all faults at once."""
    parsed, faults = {}, []
    for name, value in configured.items():
        table = {"path": value} if isinstance(value, str) else value
        path = str(table["path"])
        if ":" in name or not _is_program(path):
            faults.append(
                f"{name} = {path!r}: {'a name has no colon' if ':' in name else 'no program'}"
            )
        parsed[name] = (path, str(table.get("type") or _type_of(Path(path).name)))
    if faults:
        message = f"[plugin.process.images] {bullet_list(faults)}"
        raise InvalidConfig(message, details={"faults": faults})
    return parsed


def _type_of(name: str) -> str:
    return "python" if name.startswith("python") else "shell"


def _find(name: str) -> str | None:
    if name == "python":
        return sys.executable or shutil.which("python3")
    if name in _SHELLS:
        return shutil.which(name)
    if _PYTHON.fullmatch(name):
        found = shutil.which(name)
        return found if found and _is_binary(found) else None
    return None


def _pythons_on_path() -> set[str]:
    found: set[str] = set()
    for folder in os.environ.get("PATH", _DEFAULT_PATH).split(os.pathsep):
        try:
            found.update(name for name in os.listdir(folder or ".") if _PYTHON.fullmatch(name))  # noqa: PTH208 - names are all that is needed
        except OSError:
            continue
    return found


def _is_program(path: str) -> bool:
    return path.startswith("/") and Path(path).is_file() and os.access(path, os.X_OK)


def _is_binary(path: str) -> bool:
    """Tell an interpreter from a version manager's script of its name, which may not start one."""
    try:
        with Path(path).open("rb") as file:
            return file.read(2) != b"#!"
    except OSError:
        return False


def _describe(name: str, path: str, runtime: str) -> Image | None:
    try:
        seen = Path(path).stat()
    except OSError:
        return None
    identity = f"{path}\0{seen.st_mtime_ns}\0{seen.st_size}".encode()
    return Image(
        name=name,
        digest="blake2b:" + hashlib.blake2b(identity, digest_size=16).hexdigest(),
        architecture=os.uname().machine,
        labels={RUNTIME_TYPE: runtime, RUNTIME_PATH: path},
        env={"PATH": os.environ.get("PATH", _DEFAULT_PATH), "LANG": "C.UTF-8"},
    )
