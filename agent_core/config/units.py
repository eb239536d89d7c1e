"""How sizes, durations and addresses are written in a configuration."""

from __future__ import annotations

import re
from typing import Final

from agent_core.contracts.amount import Amount

_FACTOR: Final = re.compile(r"[1-9]\d{0,8}(?:\.\d{1,9})?")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PORT_RANGE: Final = re.compile(r"\[?\s*(\d{1,5})\s*[-,]\s*(\d{1,5})\s*\]?")
_ENDS: Final = 2
_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})")


def read_size(value: object) -> object:
    """Turn a size such as ``"1G"`` (2**30) into bytes; what is no text passes unchanged.

    Raises:
        ValueError: when the text is not a size.
    """
    return Amount.parse_size(value).value if isinstance(value, str) else value


def read_duration(value: object) -> object:
    """Turn a duration such as ``"500ms"`` or ``"2m"`` into seconds; a number is seconds already.

    Raises:
        ValueError: when the text is not a duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration such as 10, 500ms, 10s or 2m")
    return float(match.group(1)) * _SECONDS[match.group(2) or "s"]


def read_factor(value: object) -> object:
    """Turn a decimal of at least 1 into the text of just that decimal; floats by their shortest.

    Raises:
        ValueError: when it is no such decimal.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    text = str(value).strip()
    if _FACTOR.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a decimal of at least 1, such as 1.5")
    return str(Amount.parse(text))


def read_port_range(value: object) -> object:
    """Turn a text such as ``30000-31000`` into its two numbers; what is no text passes unchanged.

    Raises:
        ValueError: when there are not two ports.
    """
    one = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    match = _PORT_RANGE.fullmatch(one.strip()) if isinstance(one, str) else None
    if match is not None:
        return int(match[1]), int(match[2])
    if not isinstance(value, list | tuple) or len(value) != _ENDS:
        raise ValueError(f"{value!r} is not two ports")
    return value


def split_address(text: str) -> dict[str, str | int] | None:
    """Split ``host:port`` or ``[v6]:port``; None when the text is no address."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    return {"host": match["six"] or match["host"], "port": int(match["port"])}
