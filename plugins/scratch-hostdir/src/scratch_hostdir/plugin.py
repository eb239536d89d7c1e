"""The scratch manager ``hostdir``: one plain directory of the host for each kernel.

    <root>/<kernel id>/config      the agent's
    <root>/<kernel id>/work        the user's
    <root>/<kernel id>/.owner      the agent's id, where several agents share a root
    <root>/.trash/<kernel id>/...  being removed

Configuration: `root` and `owner`, which the core gives; `usage-deadline`, seconds, 2 by default.
Scratches of another owner are never listed; what has no owner's mark is.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent_core.contracts.errors import (
    Conflict,
    InvalidArgument,
    InvalidConfig,
    NotFound,
    PluginError,
    PluginTimeout,
    Unsupported,
)
from agent_core.contracts.info import PluginInfo, Support
from agent_core.contracts.scratch import Scratch, ScratchManager, ScratchUsage
from agent_core.hookspecs import hookimpl
from scratch_hostdir.measure import TreeMeter
from scratch_hostdir.removal import empty, new_name, open_directory

_KERNEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TRASH = ".trash"
_MARK = ".owner"
_PARTS = ("config", "work")
_PRIVATE = 0o700


class HostDirScratch(ScratchManager):
    """Scratches that are directories, without any limit of size."""

    info = PluginInfo(
        kind="scratch",
        name="hostdir",
        summary="Plain directories of the host, without a limit of size",
        config_schema={
            "type": "object",
            "additionalProperties": False,
            "required": ["root"],
            "properties": {
                "root": {"type": "string", "minLength": 1},
                "owner": {"type": "string"},
                "usage-deadline": {"type": "number", "exclusiveMinimum": 0},
            },
        },
        capabilities={"size-limit": Support.NO},
        deadlines={"destroy": 600.0},
    )

    def __init__(self) -> None:
        self._root = Path()
        self._owner = ""
        self._usage_deadline = 2.0

    def open(self, config: Mapping[str, Any]) -> None:
        """Make the root where it is not there.

        Raises:
            InvalidConfig: when there is no root, or it is not ours alone to write.
        """
        if not config.get("root"):
            raise InvalidConfig("hostdir: no root is configured", hint="Set scratch-root.")
        self._usage_deadline = float(config.get("usage-deadline", 2.0))
        self._owner = str(config.get("owner", ""))
        self._root = Path(config["root"]).absolute()
        try:
            self._root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            self._root = self._root.resolve(strict=True)
            _refuse_open_root(self._root)
        except OSError as exc:
            raise InvalidConfig(
                f"hostdir: {self._root} cannot hold scratches: {exc.strerror}",
                hint="Set scratch-root to a directory that the agent may write.",
            ) from exc

    def create(self, kernel_id: str, size: int | None = None) -> Scratch:
        """Make the kernel's directories, or return those that exist."""
        _check(kernel_id)
        if size is not None:
            raise Unsupported(
                "scratch type 'hostdir' cannot limit a scratch to a size",
                hint="Leave scratch-size out, or choose a scratch-type with the size-limit.",
            )
        with _told("create", kernel_id), self._opened() as root:
            _make(kernel_id, root)
            directory = open_directory(kernel_id, root)
            try:
                self._refuse_stranger(kernel_id)
                if self._owner:
                    _mark(self._owner, directory)
                for part in _PARTS:
                    _make(part, directory)
            finally:
                os.close(directory)
        return Scratch(kernel_id, str(self._root / kernel_id), owner=self._owner or None)

    def destroy(self, kernel_id: str) -> None:
        """Move the scratch to the trash, then remove it from there."""
        _check(kernel_id)
        with _told("destroy", kernel_id), self._opened() as root:
            if not self._is_own(self._root / kernel_id):
                return  # another agent's kernel of the same id: nothing of ours is there
            if _exists(kernel_id, root):
                _make(_TRASH, root)
                _make(f"{_TRASH}/{kernel_id}", root)
                aside = f"{_TRASH}/{kernel_id}/{new_name()}"
                os.rename(kernel_id, aside, src_dir_fd=root, dst_dir_fd=root)
            self._empty_trash(kernel_id, root)

    def _empty_trash(self, kernel_id: str, root: int) -> None:
        try:
            trash = open_directory(f"{_TRASH}/{kernel_id}", root)
        except FileNotFoundError:
            return
        try:
            empty(trash)
        finally:
            os.close(trash)
        os.rmdir(f"{_TRASH}/{kernel_id}", dir_fd=root)

    def usage(self, kernel_id: str) -> ScratchUsage:
        """Measure the disk space that it takes, within `usage-deadline`."""
        _check(kernel_id)
        try:
            used = TreeMeter(self._usage_deadline).measure(str(self._root / kernel_id))
        except FileNotFoundError as exc:
            raise NotFound(f"kernel {kernel_id!r} has no scratch in {self._root}") from exc
        except TimeoutError as exc:
            raise PluginTimeout(
                f"the scratch of kernel {kernel_id!r} could not be measured in "
                f"{self._usage_deadline:g} seconds",
                plugin=self.info.name,
                stage="usage",
                hint="It holds very many files; raise usage-deadline in [plugin.hostdir].",
            ) from exc
        except OSError as exc:
            raise _failed("usage", kernel_id, exc) from exc
        return ScratchUsage(used)

    def list(self) -> Sequence[Scratch]:
        """List the scratches, also those that were left half removed."""
        found = {name: self._root / _TRASH / name for name in _kernels(self._root / _TRASH)}
        found.update({name: self._root / name for name in _kernels(self._root)})
        marked = {name: (path, _owners(path)) for name, path in sorted(found.items())}
        return [
            Scratch(name, str(path), owner=self._owner if owners else None)
            for name, (path, owners) in marked.items()
            if not owners or self._owner in owners
        ]

    def _refuse_stranger(self, kernel_id: str) -> None:
        if not self._is_own(self._root / kernel_id):
            raise Conflict(
                f"another agent has a scratch of kernel {kernel_id!r} in {self._root}",
                hint="Give each agent a scratch-root of its own, or use another kernel id.",
            )

    def _is_own(self, path: Path) -> bool:
        """Another agent may share the root; what nobody has marked may be anybody's."""
        owners = _owners(path)
        return not owners or self._owner in owners

    @contextmanager
    def _opened(self) -> Iterator[int]:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield root
        finally:
            os.close(root)


def _check(kernel_id: str) -> None:
    if not _KERNEL_ID.fullmatch(kernel_id):
        raise InvalidArgument(
            f"{kernel_id[:80]!r} cannot name a scratch",
            hint="A kernel id has letters, digits, '.', '_' and '-', and begins with one of the "
            "first two.",
        )


def _refuse_open_root(root: Path) -> None:
    found = root.stat()
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, "others may rename and remove what is in it")
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, f"it belongs to the user {found.st_uid}")


def _make(name: str, parent: int) -> None:
    """Make a private directory, or see that it is one and not a link to another."""
    with suppress(FileExistsError):
        os.mkdir(name, _PRIVATE, dir_fd=parent)
    os.close(open_directory(name, parent))


def _owners(path: Path) -> set[str]:
    """Read the mark of a scratch, or those of what is left of it in the trash."""
    # What lies below a scratch is its user's, who must not be able to give it to another agent.
    marks = path.glob(f"*/{_MARK}") if path.parent.name == _TRASH else [path / _MARK]
    files = [mark for mark in marks if mark.is_file() and not mark.is_symlink()]
    return {mark.read_text(errors="replace") for mark in files}


def _mark(owner: str, directory: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(_MARK, flags, 0o600, dir_fd=directory), "w") as file:
        file.write(owner)


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _kernels(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and _KERNEL_ID.fullmatch(entry.name)
            ]
    except FileNotFoundError:
        return []


@contextmanager
def _told(stage: str, kernel_id: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _failed(stage, kernel_id, exc) from exc


def _failed(stage: str, kernel_id: str, exc: OSError) -> PluginError:
    hints = {
        errno.EBUSY: "Something is mounted inside it; unmount that first.",
        errno.ENOTEMPTY: "Some process still writes into it.",
        errno.EPERM: "A file in it is immutable or belongs to another user.",
        errno.EACCES: "A file in it belongs to another user.",
        errno.ENOSPC: "The disk that holds the scratches is full.",
    }
    return PluginError(
        f"hostdir could not {stage} the scratch of kernel {kernel_id!r}: {exc.strerror or exc}",
        plugin="hostdir",
        stage=stage,
        hint=hints.get(exc.errno or 0),
        details={"errno": errno.errorcode.get(exc.errno or 0, "")},
    )


@hookimpl
def register_scratch() -> type[ScratchManager]:
    """Register the scratch manager."""
    return HostDirScratch
