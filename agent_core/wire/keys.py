"""The CURVE keys of an agent and its callers: who has which, and the files that hold them.

The directory holds, for the agent (`server`) and for each caller, ``NAME.key`` with the public half
and ``NAME.secret`` with the secret one: one line of 40 characters (Z85) each. After a caller's
public half, in the same line, stands its role. Whoever's ``.key`` lies in the agent's directory may
call; a caller elsewhere needs the agent's ``server.key`` and its own ``.secret``, and nobody but it
ever needs the latter.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import InvalidConfig
from agent_core.wire.roles import Role

SERVER: Final = "server"
LOCAL_CLIENT: Final = "agentctl"
KEY_LENGTH: Final = 40
"""Characters of one half of a pair."""

_MOST: Final = 4096
_HINT: Final = "Remove the damaged file; the agent makes its own keys again when it starts."
_ROLES: Final = {role.label: role for role in Role}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, both halves as 40 characters of Z85."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who may call by TCP: the name of its key file, its public key and what it may do."""

    name: str
    public: bytes
    role: Role


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What the agent needs: its own pair, and the directory where its callers' keys lie."""

    pair: KeyPair
    directory: Path


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a caller needs: the agent's public key and its own pair."""

    server: bytes
    pair: KeyPair


def ensure_keys(directory: Path) -> ServerKeys:
    """Read the agent's keys, making its own pair and agentctl's at the first start.

    Raises:
        InvalidConfig: when a key file cannot be read or made, is damaged, or others can read it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair = _ensure_pair(directory, SERVER, None)
        _ensure_pair(directory, LOCAL_CLIENT, Role.ADMIN)
        read_callers(directory)
    except OSError as exc:
        raise InvalidConfig(f"cannot make RPC keys in {directory}: {exc.strerror}") from exc
    return ServerKeys(pair, directory)


def caller_files(directory: Path) -> list[Path]:
    """List the public key files of the callers, sorted; OSError when that is not possible."""
    files = (path for path in directory.iterdir() if path.suffix == ".key")
    return sorted(path for path in files if path.stem != SERVER)


def read_callers(directory: Path) -> list[Caller]:
    """Read everybody who may call, by name.

    Raises:
        InvalidConfig: when a key file cannot be read or is damaged.
        OSError: when the directory cannot be listed.
    """
    return [read_caller(path) for path in caller_files(directory)]


def read_caller(path: Path) -> Caller:
    """Read who may call by one public key file.

    A file without a role is one of an earlier version, or was put there by hand: agentctl's own
    means admin, and any other means read.

    Raises:
        InvalidConfig: when it cannot be read or is damaged.
    """
    public, words = _read_line(path)
    if not words:
        return Caller(path.stem, public, _default_role(path.stem))
    role = _ROLES.get(words[0].decode("ascii", "replace")) if len(words) == 1 else None
    if role is None:
        raise InvalidConfig(
            f"{path} does not name a role after the key",
            hint=f"Write one of {', '.join(_ROLES)}, or run `agentctl keys add {path.stem}`.",
        )
    return Caller(path.stem, public, role)


def read_public_key(path: Path) -> bytes:
    """Read a public key, whatever stands behind it.

    Raises:
        InvalidConfig: when the file is missing or damaged.
    """
    return _read_line(path)[0]


def read_client_keys(directory: Path, name: str | None = None) -> ClientKeys:
    """Read what a caller needs from a directory with server.key and the caller's own secret.

    Args:
        directory: The agent's own key directory, or another with copies from it.
        name: Whose secret; by default agentctl's, or else the only one that lies there.

    Raises:
        InvalidConfig: when a file is missing, is damaged, or others can read the secret.
    """
    secret = _only_secret(directory) if name is None else directory / f"{name}.secret"
    return read_client_key(secret)


def read_client_key(secret: Path) -> ClientKeys:
    """Read what a caller needs from the file of its secret and the server.key beside it.

    Raises:
        InvalidConfig: when a file is missing, is damaged, or others can read the secret.
    """
    return ClientKeys(read_public_key(secret.with_name(f"{SERVER}.key")), read_pair(secret))


def read_pair(path: Path) -> KeyPair:
    """Read a pair from the file of its secret half.

    Raises:
        InvalidConfig: when the file is missing or damaged, or others can read it.
    """
    import zmq

    secret, _ = _read_line(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InvalidConfig(
            f"{path} is a secret key, and its mode {mode:04o} lets others read it",
            hint=f"Run `chmod 600 {path}`, and make new keys if others may have read it.",
        )
    try:
        return KeyPair(zmq.curve_public(secret), secret)
    except zmq.ZMQError as exc:
        raise InvalidConfig(f"{path} does not hold a key", hint=_HINT) from exc


def make_pair() -> KeyPair:
    """Make a new pair."""
    import zmq

    return KeyPair(*zmq.curve_keypair())


def is_public_key(text: bytes) -> bool:
    """Tell whether this can be the public half of a pair."""
    import zmq

    try:
        return len(text) == KEY_LENGTH and bool(zmq.curve_public(text))
    except zmq.ZMQError:  # it is not Z85
        return False


def write_caller(directory: Path, caller: Caller) -> None:
    """Admit a caller, or change its role, in one step; OSError when that is not possible."""
    _write(directory / f"{caller.name}.key", caller.public + b" " + caller.role.label.encode())


def write_secret(directory: Path, name: str, secret: bytes) -> Path:
    """Write a caller's secret for its owner alone; returns where it lies. OSError when not."""
    path = directory / f"{name}.secret"
    _write(path, secret)
    return path


def _only_secret(directory: Path) -> Path:
    own = directory / f"{LOCAL_CLIENT}.secret"
    if own.exists() or not directory.is_dir():
        return own
    others = sorted(p for p in directory.glob("*.secret") if p.stem != SERVER)
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise InvalidConfig(f"{directory} holds several keys: {names}", hint="Name one of them.")
    return others[0] if others else own


def _default_role(name: str) -> Role:
    return Role.ADMIN if name == LOCAL_CLIENT else Role.READ


def _ensure_pair(directory: Path, name: str, role: Role | None) -> KeyPair:
    secret_path, public_path = directory / f"{name}.secret", directory / f"{name}.key"
    if not secret_path.exists():
        write_secret(directory, name, make_pair().secret)
    pair = read_pair(secret_path)
    # A crash between the two files leaves the secret alone; the public half follows from it.
    if not public_path.exists() or read_public_key(public_path) != pair.public:
        if role is None:
            _write(public_path, pair.public)
        else:
            write_caller(directory, Caller(name, pair.public, role))
    return pair


def _write(path: Path, line: bytes) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(line + b"\n")
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def _read_line(path: Path) -> tuple[bytes, list[bytes]]:
    """Read the key in a file, and the words behind it."""
    try:
        with path.open("rb") as file:
            words = file.read(_MOST).split()
    except OSError as exc:
        raise InvalidConfig(
            f"cannot read the RPC key {path}: {exc.strerror}",
            hint="The agent makes its keys at its first start with TCP; copy them from there.",
        ) from exc
    if not words or len(words[0]) != KEY_LENGTH or not words[0].isascii():
        raise InvalidConfig(f"{path} does not hold a key of {KEY_LENGTH} characters", hint=_HINT)
    return words[0], words[1:]
