"""Making a bundle: beside its place first, and into it when it is whole and on the disk."""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent_kernel_runner.bundle import contents, manifest
from agent_kernel_runner.bundle.launcher import launcher
from agent_kernel_runner.bundle.places import START

_LOCK: Final = ".lock"
_UNFINISHED: Final = ".making-"
_DAMAGED: Final = ".damaged-"
_NAME_LENGTH: Final = 16


def name() -> str:
    """Name the bundle that this installation makes, by a digest of what it is made from."""
    digest = hashlib.sha256(sys.version.encode())
    python = contents.interpreter()
    found = python.stat()
    digest.update(f"{python} {found.st_size} {found.st_mtime_ns}".encode())
    for place, source in contents.own_files():
        digest.update(f"{place}\n".encode() + source.read_bytes())
    digest.update(launcher() or b"")
    return digest.hexdigest()[:_NAME_LENGTH]


def ensure(directory: Path, *, thorough: bool = False, anew: bool = False) -> Path:
    """Return the bundle in a directory, made now unless it is there and whole.

    A damaged one is set aside and made again: a kernel that has it keeps what it has.

    Args:
        directory: Where bundles are.
        thorough: Whether an existing one is read to its last byte.
        anew: Whether it is made in any case.

    Raises:
        OSError: when it cannot be written.
        UnfitProgram: when the host's Python cannot be bundled.
    """
    place = directory / name()
    if not anew and not manifest.faults(place, thorough=thorough):
        return place
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _alone(directory):
        if not anew and not manifest.faults(place, thorough=thorough):
            return place  # somebody else has made it meanwhile
        _forget_unfinished(directory)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=directory))
        _fill(unfinished)
        if place.exists():
            place.rename(tempfile.mkdtemp(prefix=_DAMAGED, dir=directory))
        unfinished.rename(place)
        _sync(directory)
    return place


def forget_others(directory: Path) -> None:
    """Remove every bundle but that of this installation: older ones, and what was set aside."""
    with _alone(directory):
        for left in directory.iterdir():
            if left.is_dir() and left.name != name():
                shutil.rmtree(left, ignore_errors=True)


def _fill(bundle: Path) -> None:
    bundle.chmod(0o755)
    for place, source in contents.files():
        target = bundle / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if _is_program(source, target) else 0o644)
    if (start := launcher()) is not None:
        (bundle / START).write_bytes(start)
        (bundle / START).chmod(0o755)
    # By the content of the sources: a read-only bundle is never compiled again, whatever its clock.
    compileall.compile_dir(
        bundle / "lib", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    whole = manifest.describe(bundle)
    os.sync()  # all at once: one by one, a thousand files take seconds
    (bundle / manifest.NAME).write_text(whole.to_json())
    _sync(bundle / manifest.NAME)


def _is_program(source: Path, target: Path) -> bool:
    return ".so" in target.name or bool(source.stat().st_mode & 0o100 and target.suffix != ".py")


def _forget_unfinished(directory: Path) -> None:
    """Remove what a builder that was killed has left; there is no other one now."""
    for left in directory.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One builder at a time; the lock goes with its holder."""
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
