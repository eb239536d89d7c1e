"""Plain data: what can cross a process boundary and come back equal.

Every argument and reply of a contract that may run in a process of its own is made of basic types,
enumerations, frozen dataclasses, mappings by text and sequences of these. `to_plain` takes such a
value apart, `from_plain` rebuilds it by its declared type and refuses what is not of that type:

    from_plain(Sequence[Device], to_plain(devices)) == devices
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

_Reader = Callable[[Any], Any]
_Choice = TypeVar("_Choice", bound=Enum)

_BASIC: Final[Mapping[type, tuple[type, ...]]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    bytes: (bytes,),
}


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
        return {name: to_plain(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    raise TypeError(f"{value!r} is a {type(value).__name__}, which is not plain data")


def from_plain(kind: Any, plain: Any) -> Any:
    """Rebuild a value of a declared type from what `to_plain` rendered.

    Raises:
        TypeError: when it is not of that type, naming what is not; or when the type is not plain.
        ValueError: when a value of the right type is refused by its class.
    """
    return _reader(kind)(plain)


@cache
def _reader(kind: Any) -> _Reader:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda plain: plain
    if kind is None or kind is types.NoneType:
        return _nothing
    if origin in (Union, types.UnionType):
        return _optional(kind, arguments)
    if kind in _BASIC:
        return _basic(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(arguments)
    if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
        raise TypeError(f"{kind!r} is not plain: a tuple holds any number of one type")
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(origin, arguments[0])
    raise TypeError(f"{kind!r} is not the type of plain data")


def _nothing(plain: Any) -> None:
    if plain is not None:
        raise TypeError(f"{_shown(plain)} is not None")


def _optional(kind: Any, arguments: tuple[Any, ...]) -> _Reader:
    others = [argument for argument in arguments if argument is not types.NoneType]
    if len(others) != 1 or len(arguments) != 2:
        raise TypeError(f"{kind!r} is not plain: a union is of one type and None")
    inner = _reader(others[0])
    return lambda plain: None if plain is None else inner(plain)


def _basic(kind: Any) -> _Reader:
    admitted = _BASIC[kind]

    def read(plain: Any) -> Any:
        if not isinstance(plain, admitted) or (plain.__class__ is bool and kind is not bool):
            raise TypeError(f"{_shown(plain)} is not {kind.__name__}")
        return plain

    return read


def _record(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    readers = {name: _reader(hints[name]) for name in _names(kind)}

    def read(plain: Any) -> Any:
        if not isinstance(plain, Mapping):
            raise TypeError(f"{_shown(plain)} is not {kind.__name__}")
        strangers = plain.keys() - readers.keys()
        if strangers:
            raise TypeError(f"{kind.__name__} has no field {min(map(str, strangers))!r}")
        return kind(**{name: _field(kind, name, readers[name], plain[name]) for name in plain})

    return read


def _field(kind: type, name: str, read: _Reader, plain: Any) -> Any:
    try:
        return read(plain)
    except TypeError as exc:
        raise TypeError(f"{kind.__name__}.{name}: {exc}") from exc


def _choice(kind: type[_Choice]) -> _Reader:
    choices: dict[Any, _Choice] = {member.value: member for member in kind}

    def read(plain: Any) -> _Choice:
        if not isinstance(plain, str | int) or plain not in choices:
            raise TypeError(f"{_shown(plain)} is not {kind.__name__}")
        return choices[plain]

    return read


def _mapping(arguments: tuple[Any, ...]) -> _Reader:
    inner = _reader(arguments[1])

    def read(plain: Any) -> dict[str, Any]:
        if not isinstance(plain, Mapping):
            raise TypeError(f"{_shown(plain)} is not a mapping")
        return {_key(key): inner(item) for key, item in plain.items()}

    return read


def _sequence(origin: type, item: Any) -> _Reader:
    inner, build = _reader(item), tuple if origin is tuple else list

    def read(plain: Any) -> Any:
        if not isinstance(plain, list | tuple):
            raise TypeError(f"{_shown(plain)} is not a sequence")
        return build(map(inner, plain))

    return read


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is a {type(key).__name__}, not a text")
    return key


def _shown(plain: object) -> str:
    text = repr(plain)
    return text if len(text) <= 80 else f"{text[:77]}..."
