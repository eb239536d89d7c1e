"""Listing a directory of a container from the host, never leaving the container's root.

openat2(2) with RESOLVE_IN_ROOT follows every link as the container would, absolute ones and ``..``
included, whatever its processes move meanwhile. Python has no function for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from agent_core.contracts.backend import FileEntry
from agent_core.contracts.errors import InvalidArgument, KernelFailed, NotFound

MOST: Final = 10_000
"""Entries of one directory that are listed."""

_OPENAT2: Final = 437
"""Its number, the same on every architecture (Linux 5.6)."""
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10


class _How(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def list_directory(pid: int, path: str) -> Sequence[FileEntry]:
    """List what a process finds at a path.

    Raises:
        NotFound: when nothing is there.
        InvalidArgument: when it is no directory.
        KernelFailed: when the host does not let us look.
    """
    try:
        with _root(pid) as root:
            directory = _open_within(root, path)
            try:
                return [*_entries(directory)]
            finally:
                os.close(directory)
    except NotADirectoryError as exc:
        raise InvalidArgument(f"{path} is no directory") from exc
    except (FileNotFoundError, ProcessLookupError) as exc:
        raise NotFound(f"there is no {path}") from exc
    except OSError as exc:
        raise KernelFailed(f"cannot list {path}: {exc.strerror}") from exc


@contextmanager
def _root(pid: int) -> Iterator[int]:
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
    try:
        yield root
    finally:
        os.close(root)


def _open_within(root: int, path: str) -> int:
    how = _How(
        flags=os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
        mode=0,
        resolve=_RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_int(root),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _entries(directory: int) -> Iterator[FileEntry]:
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            if count >= MOST:
                raise OSError(errno.EFBIG, f"it has more than {MOST} entries")
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield FileEntry(
                entry.name, _kind(found.st_mode), found.st_size,
                stat.S_IMODE(found.st_mode), found.st_mtime,
            )  # fmt: skip


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"
