"""Putting files into a directory of a kernel, each whole or not at all.

Code in a kernel may be able to write there too: no link that it leaves is followed, and what it
puts in the place of a file is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from agent_core.failpoints import Effect
from agent_core.kernels.user import OWN, User

PUT = Effect("config-file", "a file of a kernel's config or work directory takes its place")

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

OPEN, PRIVATE, PROGRAM = 0o644, 0o600, 0o700
"""Modes of files: for everybody in the kernel, for its owner alone, and for it to be run."""


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    Attributes:
        path: Where it is below the directory, without any ``..``.
        content: What is in it.
        mode: Its permissions.
        first: Whether it is only put where nothing is yet.
    """

    path: str
    content: bytes = field(repr=False)
    mode: int = OPEN
    _: KW_ONLY
    first: bool = False


def put_files(directory: Path, files: Iterable[File], user: User = OWN) -> None:
    """Write files of a user, each beside its place first; repeating it changes nothing.

    Raises:
        OSError: when that is not possible; what has its place stays as it was.
    """
    with _opened(str(directory), None) as top:
        for file in files:
            _put(file, top, user)


def _put(file: File, top: int, user: User) -> None:
    *folders, name = PurePosixPath(file.path).parts
    with ExitStack() as opened:
        folder = top
        for part in folders:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=folder)
            folder = opened.enter_context(_opened(part, folder))
            user.own_open(folder)
        if not (file.first and _is_there(name, folder)):
            _put_into(folder, name, file, user)


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _put_into(folder: int, name: str, file: File, user: User) -> None:
    beside = f".{name}.new"  # one name: what a crash has left there is replaced
    written = _fresh(beside, folder)
    try:
        _write(written, file.content)
        user.own_open(written)
        if file.mode != PRIVATE:
            os.fchmod(written, file.mode)
    finally:
        os.close(written)
    with PUT:
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)


def _fresh(name: str, folder: int) -> int:
    try:
        return os.open(name, _FRESH, PRIVATE, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, _FRESH, PRIVATE, dir_fd=folder)


def _write(written: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(written, rest) :]


@contextmanager
def _opened(path: str, parent: int | None) -> Iterator[int]:
    directory = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        yield directory
    finally:
        os.close(directory)
