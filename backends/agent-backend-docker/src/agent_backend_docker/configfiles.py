"""The files of the edits as the archive that the engine unpacks into a container."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

from agent_core.contracts.edits import ConfigFile


def archive_of(files: Sequence[ConfigFile]) -> bytes:
    """Pack files for unpacking at the root: owned by root, with their modes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode = len(file.content), file.mode
            tar.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()
