"""Letting callers in and out: what `agentctl keys` does to the agent's key directory.

A running agent looks at the directory again, so that nothing needs to be told to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import Conflict, InvalidArgument, InvalidConfig, NotFound
from agent_core.wire.keys import (
    LOCAL_CLIENT,
    SERVER,
    Caller,
    ensure_keys,
    is_public_key,
    make_pair,
    read_callers,
    read_pair,
    write_caller,
    write_secret,
)
from agent_core.wire.roles import Role

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def callers(directory: Path) -> list[Caller]:
    """List who may call, by name; nobody where the agent has no keys yet.

    Raises:
        InvalidConfig: when the directory cannot be read, or a file in it is damaged.
    """
    with _usable(directory):
        return read_callers(directory) if directory.exists() else []


def secret_of(directory: Path, name: str) -> Path | None:
    """Return where the secret of a caller lies, when it lies here at all."""
    path = directory / f"{name}.secret"
    return path if path.exists() else None


def admit(directory: Path, name: str, role: Role, public: bytes | None = None) -> Caller:
    """Let a caller in, or give one that is in already another role.

    Without `public` a new caller's pair is made here, and its secret lies beside the public half.

    Raises:
        InvalidArgument: when the name or the key cannot be one.
        Conflict: when the name has another key, or the key another name.
        InvalidConfig: when the directory cannot be written, or a file in it is damaged.
    """
    _check_name(name)
    if public is not None and not is_public_key(public):
        raise InvalidArgument(
            f"{public.decode(errors='replace')!r} is not a public key",
            hint="It has 40 characters; the file NAME.key of its owner holds it.",
        )
    with _usable(directory):
        ensure_keys(directory)
        known = read_callers(directory)
        caller = Caller(name, _public_of(directory, name, public, known), role)
        write_caller(directory, caller)
    return caller


def expel(directory: Path, name: str) -> None:
    """Let a caller in no more: remove its key, and its secret where that lies here.

    Raises:
        InvalidArgument: when it is the agent's own or agentctl's, which the agent makes again.
        NotFound: when there is no such caller.
        InvalidConfig: when the directory cannot be written.
    """
    _check_name(name)
    if name == LOCAL_CLIENT:
        raise InvalidArgument(
            f"the key of {name} would be made again when the agent starts",
            hint=f"Lower it with `agentctl keys add {name} --role read`.",
        )
    paths = [directory / f"{name}.key", directory / f"{name}.secret"]
    if not any(path.exists() for path in paths):
        raise NotFound(f"no caller {name} in {directory}", hint="See `agentctl keys list`.")
    with _usable(directory):
        for path in paths:
            path.unlink(missing_ok=True)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} is not a name for a caller",
            hint="Use up to 63 letters, digits, dots, hyphens and underscores.",
        )
    if name == SERVER:
        raise InvalidArgument(f"{name} is the agent's own key", hint="Choose another name.")


def _public_of(directory: Path, name: str, public: bytes | None, known: list[Caller]) -> bytes:
    """Find the key of a caller: the one given, the one it has, or a new one."""
    own = next((caller.public for caller in known if caller.name == name), None)
    if own is not None and public not in (None, own):
        raise Conflict(
            f"{name} has another key already", hint=f"Run `agentctl keys remove {name}` first."
        )
    holder = next((c.name for c in known if c.public == public and c.name != name), None)
    if holder is not None:
        raise Conflict(f"this key is {holder}'s already", hint="One name for each key is enough.")
    return own or public or _new_pair(directory, name)


def _new_pair(directory: Path, name: str) -> bytes:
    left = secret_of(directory, name)
    if left is not None:  # of an attempt that was interrupted
        return read_pair(left).public
    pair = make_pair()
    write_secret(directory, name, pair.secret)
    return pair.public


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InvalidConfig(
            f"cannot use the RPC keys in {directory}: {exc.strerror}",
            hint="Run this as the agent's user, with the agent's configuration (-f).",
        ) from exc
