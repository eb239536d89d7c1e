"""The CURVE keys of an agent and its callers: who has which, and the files that hold them.

The directory holds, for the agent (`server`) and for each caller, ``NAME.key`` with the public half
and ``NAME.secret`` with the secret one: one line of 40 characters (Z85) each. Whoever's ``.key``
lies in the agent's directory may call; a caller elsewhere needs the agent's ``server.key`` and its
own ``.secret``, and nobody but it ever needs the latter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import InvalidConfig

SERVER: Final = "server"
LOCAL_CLIENT: Final = "agentctl"
_LENGTH: Final = 40
_HINT: Final = "Remove the damaged file; the agent makes its own keys again when it starts."


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, both halves as 40 characters of Z85."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What the agent needs: its own pair, and the name of each caller by public key."""

    pair: KeyPair
    callers: Mapping[bytes, str]


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
        pair = _ensure_pair(directory, SERVER)
        _ensure_pair(directory, LOCAL_CLIENT)
        files = sorted(directory.glob("*.key"))
    except OSError as exc:
        raise InvalidConfig(f"cannot make RPC keys in {directory}: {exc.strerror}") from exc
    callers = {_read_key(path): path.stem for path in files if path.stem != SERVER}
    return ServerKeys(pair, callers)


def read_client_keys(directory: Path, name: str = LOCAL_CLIENT) -> ClientKeys:
    """Read what the caller `name` needs from a directory with server.key and its own secret.

    Raises:
        InvalidConfig: when a file is missing, is damaged, or others can read the secret.
    """
    return ClientKeys(
        _read_key(directory / f"{SERVER}.key"), _read_pair(directory / f"{name}.secret")
    )


def _ensure_pair(directory: Path, name: str) -> KeyPair:
    secret_path, public_path = directory / f"{name}.secret", directory / f"{name}.key"
    if not secret_path.exists():
        import zmq

        _, secret = zmq.curve_keypair()
        _write(secret_path, secret)
    pair = _read_pair(secret_path)
    # A crash between the two files leaves the secret alone; the public half follows from it.
    if not public_path.exists() or _read_key(public_path) != pair.public:
        _write(public_path, pair.public)
    return pair


def _write(path: Path, key: bytes) -> None:
    temporary = path.with_suffix(f"{path.suffix}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def _read_pair(path: Path) -> KeyPair:
    import zmq

    secret = _read_key(path)
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


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as exc:
        raise InvalidConfig(
            f"cannot read the RPC key {path}: {exc.strerror}",
            hint="The agent makes its keys at its first start with TCP; copy them from there.",
        ) from exc
    if len(key) != _LENGTH or not key.isascii() or b" " in key:
        raise InvalidConfig(f"{path} does not hold a key of {_LENGTH} characters", hint=_HINT)
    return key
