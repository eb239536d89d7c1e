"""The messages of Jupyter: signed, and correlated by their headers."""

from __future__ import annotations

import hmac
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_DELIMITER = b"<IDS|MSG>"
_VERSION = "5.4"


class Message:
    """One message that a kernel sent.

    Attributes:
        kind: Its type, such as ``stream``.
        parent: The id of the request that it belongs to; empty when it belongs to none.
        content: What it says; whatever the user's code made the kernel say.
        header: Its own header, for an answer.
    """

    __slots__ = ("content", "header", "kind", "parent")

    def __init__(
        self, kind: str, parent: str, content: dict[str, Any], header: dict[str, Any]
    ) -> None:
        self.kind = kind
        self.parent = parent
        self.content = content
        self.header = header


class Session:
    """Makes requests and reads what comes back.

    Args:
        key: What the kernel shares with this side alone.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._id = os.urandom(8).hex()
        self._count = 0

    def request(
        self, kind: str, content: Mapping[str, Any], parent: Mapping[str, Any] | None = None
    ) -> tuple[str, list[bytes]]:
        """Make a message; return its id, and its parts."""
        self._count += 1
        header = {
            "msg_id": f"{self._id}_{self._count}",
            "msg_type": kind,
            "session": self._id,
            "username": "work",
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "version": _VERSION,
        }
        parts = [json.dumps(part).encode() for part in (header, parent or {}, {}, content)]
        return header["msg_id"], [_DELIMITER, self._signature(parts), *parts]

    def _signature(self, parts: list[bytes]) -> bytes:
        return hmac.digest(self._key, b"".join(parts), "sha256").hex().encode()

    def read(self, parts: list[bytes]) -> Message | None:
        """Read what a kernel sent; None when it is no message, or somebody else's."""
        try:
            start = parts.index(_DELIMITER)
            signature, *signed = parts[start + 1 : start + 6]
            if not hmac.compare_digest(signature, self._signature(signed)):
                return None
            header, parent, _, content = map(json.loads, signed)
            kind = header["msg_type"]
            about = parent.get("msg_id", "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if not isinstance(kind, str) or not isinstance(content, dict):
            return None
        return Message(kind, about if isinstance(about, str) else "", content, header)
