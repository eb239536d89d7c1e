"""What a kernel's work directory has at its start: the caller's files, and SSH keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent_core.kernels.dotfiles import Dotfile
from agent_core.kernels.files.folder import PRIVATE, PROGRAM, File, put_files
from agent_core.kernels.key_pairs import KeyPair
from agent_core.kernels.spec import KernelSpec
from agent_core.kernels.startup import BOOTSTRAP, Startup
from agent_core.kernels.user import User


def put_home(work: Path, spec: KernelSpec, pair: KeyPair | None, user: User) -> Iterator[str]:
    """Put those that are not there yet, so that a restart keeps what the user made of them.

    Yields:
        Why one of them is not there; the kernel starts without it.
    """
    for file in [*_dotfiles(spec.dotfiles), *_bootstrap(spec.startup), *_keys(pair)]:
        try:
            put_files(work, [file], user)
        except OSError as exc:
            yield f"{file.path} is not in the work directory: {exc.strerror}"


def _dotfiles(dotfiles: tuple[Dotfile, ...]) -> Iterator[File]:
    for file in dotfiles:
        yield File(file.path, file.data.encode(), file.perm, first=True)


def _bootstrap(startup: Startup) -> Iterator[File]:
    if startup.bootstrap:
        yield File(BOOTSTRAP, startup.bootstrap.encode(), PROGRAM, first=True)


def _keys(pair: KeyPair | None) -> Iterator[File]:
    if pair is not None:
        yield File(".ssh/id_rsa", _line(pair.private_key), PRIVATE, first=True)
        yield File(".ssh/authorized_keys", _line(pair.public_key), PRIVATE, first=True)


def _line(text: str) -> bytes:
    return text.rstrip("\n").encode() + b"\n"
