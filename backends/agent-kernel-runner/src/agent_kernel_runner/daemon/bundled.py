"""The interpreter that the daemon itself runs in, as a program for others to be started with."""

from __future__ import annotations

import os
import sys


def python_of(bundle: str) -> list[str]:
    """Name the words that start it; through the launcher, since it has a loader of its own."""
    library = f"{bundle}/lib"
    start = [f"{bundle}/bin/start"] if os.path.exists(f"{bundle}/bin/start") else []
    return [*start, f"{library}/ld.so", "--library-path", library, sys.executable]
