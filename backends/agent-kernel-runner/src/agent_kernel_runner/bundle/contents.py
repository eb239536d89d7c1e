"""What goes into a bundle: files of the host's Python and of this package, and their places."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from agent_kernel_runner.bundle.elf import libraries_of, loader_of
from agent_kernel_runner.bundle.places import LIBRARIES, LOADER, PACKAGE, PYTHON, VERSION

_SOURCE: Final = Path(__file__).parents[1]

_LEFT_OUT: Final = frozenset(
    {
        "__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data",
        "site-packages", "test", "tests", "tkinter", "turtledemo",
    }
)  # fmt: skip
"""Of the standard library: what only its own developers, or a desktop, need."""

_MODULES_LEFT_OUT: Final = ("_tkinter.", "_test", "_ctypes_test.", "_xx", "xx")
"""Compiled modules of the same kind; the first alone would bring a desktop's libraries."""

_OWN: Final = ("daemon", "interpreters", "jupyter")
_UNWIND: Final = "libgcc_s.so.1"
"""The C library loads it by itself when a thread is cancelled, so nothing is linked against it."""

Placed = tuple[PurePosixPath, Path]


def interpreter() -> Path:
    """The host's interpreter itself, also where a virtual environment was started."""
    base = getattr(sys, "_base_executable", "") or sys.executable
    return Path(base).resolve()


def files() -> Iterator[Placed]:
    """Yield the place and the source of every file that is copied.

    Raises:
        UnfitProgram: when the interpreter cannot be bundled.
    """
    python = interpreter()
    loader = loader_of(python)
    yield PurePosixPath(PYTHON), python
    yield PurePosixPath(LOADER), loader.resolve()
    modules = [*_library()]
    yield from modules
    programs = [python, *(source for _, source in modules if source.suffix == ".so")]
    yield from _libraries(programs, loader)
    yield from own_files()


def own_files() -> Iterator[Placed]:
    """Yield the files of the runner itself."""
    place = PurePosixPath(PACKAGE)
    yield place / "__init__.py", _SOURCE / "__init__.py"
    for name in _OWN:
        for source in sorted((_SOURCE / name).iterdir()):
            if source.is_file():
                yield place / name / source.name, source


def _library() -> Iterator[Placed]:
    top = Path(sysconfig.get_path("stdlib")).resolve()
    for directory, below, names in os.walk(top):
        here = Path(directory)
        below[:] = sorted(
            name for name in below if name not in _LEFT_OUT and not name.startswith("config-")
        )
        for name in sorted(names):
            if name.startswith(_MODULES_LEFT_OUT) and name.endswith(".so"):
                continue
            place = PurePosixPath(LIBRARIES) / VERSION / (here / name).relative_to(top).as_posix()
            yield place, here / name
    yield from _modules_elsewhere(top)


def _modules_elsewhere(top: Path) -> Iterator[Placed]:
    """Yield compiled modules of a Python that keeps them apart from its library."""
    apart = Path(sysconfig.get_path("platstdlib")).resolve() / "lib-dynload"
    if apart.is_dir() and not apart.is_relative_to(top):
        for source in sorted(apart.glob("*.so")):
            yield PurePosixPath(LIBRARIES) / VERSION / "lib-dynload" / source.name, source


def _libraries(programs: list[Path], loader: Path) -> Iterator[Placed]:
    found: dict[str, Path] = {}
    for program in programs:
        for name, path in libraries_of(program, loader):
            found.setdefault(name, path)
    for path in list(found.values()):
        beside = path.parent / _UNWIND
        if beside.exists():
            found.setdefault(_UNWIND, beside)
    for name, path in sorted(found.items()):
        # The loader is there already, and some libraries name it as one.
        if path.resolve() != loader.resolve() and "/" not in name:
            yield PurePosixPath(LIBRARIES) / name, path.resolve()
