"""Where things are in a bundle."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from typing import Final

VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON: Final = f"bin/{VERSION}"
LIBRARIES: Final = "lib"
LOADER: Final = "lib/ld.so"
START: Final = "bin/start"
PACKAGE: Final = "lib/agent_kernel_runner"
DAEMON: Final = f"{PACKAGE}/daemon/__main__.py"

MACHINES: Final = ("x86_64", "aarch64")
"""Those that there is a launcher for; on others the loader is started at once."""


def python_of(bundle: str) -> Iterator[str]:
    """Yield the words that start the interpreter of a bundle at this place."""
    if platform.machine() in MACHINES:
        yield f"{bundle}/{START}"
    yield from (f"{bundle}/{LOADER}", "--library-path", f"{bundle}/{LIBRARIES}")
    yield f"{bundle}/{PYTHON}"
