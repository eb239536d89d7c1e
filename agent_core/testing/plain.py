"""Plain data: what can cross a process boundary and come back equal."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints


def to_plain(value: object) -> Any:
    """Render frozen dataclasses as maps, and everything below as basic types.

    Raises:
        TypeError: when something is not plain data, naming it.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    raise TypeError(f"{value!r} is a {type(value).__name__}, which is not plain data")


def from_plain(kind: Any, plain: Any) -> Any:
    """Rebuild a value of a declared type from what `to_plain` rendered."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if plain is None else from_plain(_not_none(arguments), plain)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: from_plain(hints[name], item) for name, item in plain.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(plain)
    if origin is tuple:
        return tuple(from_plain(arguments[0], item) for item in plain)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: from_plain(arguments[1], item) for key, item in plain.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [from_plain(arguments[0], item) for item in plain]
    return plain


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is a {type(key).__name__}, not a text")
    return key


def _not_none(arguments: tuple[Any, ...]) -> Any:
    return next(a for a in arguments if a is not type(None))
