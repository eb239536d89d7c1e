"""Kernel specifications: the files by which Jupyter kernels are found, and how they start."""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FILE = "kernel.json"
_LARGEST = 1 << 20
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_PREFERRED = "python3"


class KernelSpec:
    """How one Jupyter kernel is started.

    Attributes:
        name: The name of its directory.
        language: What it runs, such as ``python`` or ``R``.
        directory: Where its file lies.
        argv: Its command line, with ``{connection_file}`` and the like in it.
        env: What its environment has besides.
        by_message: Whether it is interrupted by a message instead of a signal.
    """

    __slots__ = ("argv", "by_message", "directory", "env", "language", "name")

    def __init__(self, name: str, directory: str, data: Mapping[str, object]) -> None:
        argv, env = data.get("argv"), data.get("env") or {}
        if not isinstance(argv, list) or not argv or not all(isinstance(w, str) for w in argv):
            raise ValueError("argv is no list of words")
        if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
            raise ValueError("env is no object of texts")
        self.name = name
        self.directory = directory
        self.argv: list[str] = argv
        self.env: dict[str, str] = env
        self.language = str(data.get("language") or "")
        self.by_message = data.get("interrupt_mode") == "message"

    @property
    def prefix(self) -> str:
        """Where what belongs to it is installed: the directory above ``share/jupyter``."""
        return self.directory.partition("/share/jupyter/")[0]

    def command(self, connection_file: str, python: str, path: str) -> list[str]:
        """Say what to start.

        Args:
            connection_file: What the kernel reads where it listens from.
            python: The interpreter to use where the file names just any.
            path: Where programs are looked for, separated by colons.
        """
        places = {
            "{connection_file}": connection_file,
            "{resource_dir}": self.directory,
            "{prefix}": self.prefix,
        }
        words = list(self.argv)
        for name, value in places.items():
            words = [word.replace(name, value) for word in words]
        return [self._program(words[0], python, path), *words[1:]]

    def _program(self, name: str, python: str, path: str) -> str:
        if "/" in name:
            return name
        own = f"{self.prefix}/bin/{name}"
        if os.access(own, os.X_OK):
            return own
        if _PYTHON.fullmatch(name) and os.path.basename(python).startswith("python"):
            return python
        return _which(name, path) or name


def found(runtime_path: str, env: Mapping[str, str]) -> list[KernelSpec]:
    """List the kernels of the image, of two with one name the first, as Jupyter finds them.

    Args:
        runtime_path: The image's interpreter; what is installed beside it is looked at as well.
        env: The environment of the user's code.
    """
    specs: dict[str, KernelSpec] = {}
    for directory in directories(runtime_path, env):
        for spec in _within(directory):
            specs.setdefault(spec.name, spec)
    return list(specs.values())


def chosen(specs: Sequence[KernelSpec], name: str) -> KernelSpec | None:
    """Choose by name, else by language, in any case; without a name Python, or the only one."""
    wanted = name.lower()
    if not wanted:
        python = [spec for spec in specs if spec.name == _PREFERRED]
        return python[0] if python else specs[0] if len(specs) == 1 else None
    named = [spec for spec in specs if spec.name.lower() == wanted]
    speaking = [spec for spec in specs if spec.language.lower() == wanted]
    return next(iter([*named, *speaking]), None)


def directories(runtime_path: str, env: Mapping[str, str]) -> list[str]:
    """List the directories that kernels may be specified in, each once, the first first."""
    home = env.get("HOME") or "/root"
    data = env.get("XDG_DATA_HOME") or f"{home}/.local/share"
    places = [*env.get("JUPYTER_PATH", "").split(":"), env.get("JUPYTER_DATA_DIR", "")]
    places.append(f"{data}/jupyter")
    places += [f"{prefix}/share/jupyter" for prefix in _prefixes(runtime_path, env)]
    absolute = [place for place in places if place.startswith("/")]
    return [f"{place}/kernels" for place in dict.fromkeys(absolute)]


def _prefixes(runtime_path: str, env: Mapping[str, str]) -> Iterator[str]:
    """Yield where programs are installed: that of the image, those on the path, the usual ones."""
    programs = [os.path.dirname(runtime_path), *env.get("PATH", "").split(":")]
    for directory in programs:
        above, name = os.path.split(directory.rstrip("/"))
        if name == "bin" and above:
            yield above if above != "/" else ""
    yield "/usr/local"
    yield "/usr"


def _within(directory: str) -> Iterator[KernelSpec]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        spec = _read(name, f"{directory}/{name}")
        if spec is not None:
            yield spec


def _read(name: str, directory: str) -> KernelSpec | None:
    """Read one specification; what is none is passed over, as Jupyter does."""
    try:
        with open(f"{directory}/{_FILE}", "rb") as file:
            data = json.loads(file.read(_LARGEST))
        return KernelSpec(name, directory, data)
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _which(name: str, path: str) -> str | None:
    for directory in path.split(":"):
        program = f"{directory}/{name}"
        if directory and os.access(program, os.X_OK):
            return program
    return None
