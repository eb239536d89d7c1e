"""The SSH key pair of a session: one for all of its kernels on this node.

It is made by the first kernel that needs it, or given by whoever creates the session, and kept
below the state directory until the last of them has ended. The private half is in that file and in
the kernels' own config and work directories, and nowhere else: neither ledger nor record, event or
log.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from agent_core.contracts.errors import InternalError, Unsupported

_SESSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_LONGEST: Final = 16 << 10
_BEGIN: Final = "-----BEGIN "
FIELDS: Final = ("public_key", "private_key")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An SSH key pair: the public half as one line, the private one as OpenSSH writes it."""

    public_key: str
    private_key: str = field(repr=False)


class KeyPairs:
    """The pairs of the sessions on this node, each a file of mode 0600.

    Args:
        directory: Where they are kept; made when the first is.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ensure(self, session_id: str, given: KeyPair | None) -> KeyPair:
        """Return the session's pair: the one that is kept, else the one given, else a new one.

        Nobody else may do this for the same session meanwhile.

        Raises:
            Unsupported: when one has to be made, and what makes it is not installed.
        """
        path = self._path(session_id)
        if (kept := _read(path)) is not None:
            return kept
        pair = given or make_pair(session_id)
        self._keep(path, pair)
        return pair

    def forget(self, session_id: str) -> None:
        """Remove the session's pair; succeeds when there is none."""
        path = self._path(session_id)
        for each in (path, _beside(path)):
            each.unlink(missing_ok=True)

    def _path(self, session_id: str) -> Path:
        # A row that was tampered with must not make us remove another file.
        if not _SESSION.fullmatch(session_id):
            raise InternalError(f"{session_id!r} is not the id of a session")
        return self._directory / f"{session_id}.json"

    def _keep(self, path: Path, pair: KeyPair) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = _beside(path)
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(pair), file)
        beside.replace(path)


def make_pair(comment: str) -> KeyPair:
    """Make an Ed25519 pair.

    Raises:
        Unsupported: when the library for that is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as exc:
        raise Unsupported(
            "no SSH key pair can be made: the package 'cryptography' is not installed",
            hint="Install agent-core[ssh], or give the pair as cluster.ssh_keypair.",
        ) from exc
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    return KeyPair(f"{public.decode()} {comment}", private.decode())


def read_pair(value: object) -> tuple[KeyPair | None, list[str]]:
    """Read a caller's pair; returns it with every fault in words, which never quote a key."""
    if value is None:
        return None, []
    if not isinstance(value, Mapping) or {*value} != {*FIELDS}:
        return None, [f"is not a table of {' and '.join(FIELDS)}"]
    public, private = (value[name] for name in FIELDS)
    faults = []
    if not _is_key(public) or len(public.split()) < 2 or len(public.splitlines()) != 1:
        faults.append("public_key is not one line such as `ssh-ed25519 AAAA...`")
    if not _is_key(private) or not private.startswith(_BEGIN):
        faults.append("private_key does not begin as OpenSSH and PEM files do")
    return (None, faults) if faults else (KeyPair(public.strip(), private), [])


def _is_key(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _LONGEST and text.isascii() and "\0" not in text


def _beside(path: Path) -> Path:
    return path.with_suffix(".new")


def _read(path: Path) -> KeyPair | None:
    try:
        kept = json.loads(path.read_text())
        return KeyPair(*(str(kept[name]) for name in FIELDS))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise InternalError(f"{path} is not a key pair: remove it to have another made") from exc
