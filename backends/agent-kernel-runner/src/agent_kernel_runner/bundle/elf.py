"""Which loader a program needs, and which libraries the loader finds for it.

The layout is that of the System V ABI, "Program Header"; only the class, the byte order and
PT_INTERP are read. The libraries are named by the loader itself (``ld.so --list``, of glibc and of
musl alike), since how it searches is its own affair.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PT_INTERP: Final = 3
_MAGIC: Final = b"\x7fELF"
_FOUND: Final = re.compile(r"^\s*(\S+) => (/\S+) \(0x", re.MULTILINE)
_DEADLINE: Final = 20.0


class UnfitProgram(Exception):
    """Raised when a program cannot be part of a bundle: with what is wrong with it."""


def loader_of(program: Path) -> Path:
    """Find the dynamic loader that a program asks for.

    Raises:
        UnfitProgram: when it is no 64-bit ELF program, or is linked statically.
    """
    with program.open("rb") as file:
        head = file.read(64)
        if head[:4] != _MAGIC or head[4] != 2:
            raise UnfitProgram(f"{program} is no 64-bit ELF program")
        order = "<" if head[5] == 1 else ">"
        (offset,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
        for number in range(count):
            kind, _, begin, _, _, length = struct.unpack_from(
                f"{order}IIQQQQ", table, number * size
            )
            if kind == _PT_INTERP:
                file.seek(begin)
                return Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    raise UnfitProgram(f"{program} is linked statically")


def libraries_of(program: Path, loader: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the place of every library that a program or a module needs.

    Raises:
        UnfitProgram: when one of them is nowhere.
    """
    # What the agent itself was started with must not become part of every kernel.
    env = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
    done = subprocess.run(
        [loader, "--list", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE,
        env=env,
    )
    if missing := re.findall(r"(\S+) => not found", done.stdout):
        raise UnfitProgram(f"{program} needs {', '.join(missing)}, which is nowhere")
    for name, path in _FOUND.findall(done.stdout):
        yield name, Path(path)
