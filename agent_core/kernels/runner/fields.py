"""The fields of what a runner sends, each checked as the hostile input that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_core.contracts.errors import MalformedFrame


def text(message: Mapping[str, Any], name: str, bound: int) -> str:
    """Read a text of bounded length; half a surrogate pair in it is replaced.

    Raises:
        MalformedFrame: when it is none.
    """
    value = message.get(name)
    if not isinstance(value, str) or len(value) > bound:
        raise MalformedFrame(f"{name}: not a string of at most {bound} characters")
    # A lone surrogate in JSON would break every encoder further on.
    return value.encode("utf-8", "replace").decode()


def integer(message: Mapping[str, Any], name: str) -> int:
    """Read a whole number that every JSON reader has exactly.

    Raises:
        MalformedFrame: when it is none.
    """
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 1 << 53:
        raise MalformedFrame(f"{name}: not a whole number")
    return value


def count(message: Mapping[str, Any], name: str) -> int:
    """Read a whole number that counts something.

    Raises:
        MalformedFrame: when it is none.
    """
    value = integer(message, name)
    if value < 0:
        raise MalformedFrame(f"{name}: less than nothing")
    return value


def one_of(message: Mapping[str, Any], name: str, known: frozenset[Any]) -> str:
    """Read one of the words that are known.

    Raises:
        MalformedFrame: when it is none.
    """
    value = message.get(name)
    if not isinstance(value, str) or value not in known:
        raise MalformedFrame(f"{name}: none of {', '.join(sorted(known))}")
    return value
