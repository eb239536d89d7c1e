"""Types as people read them."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    bytes: "bytes",
    Path: "path",
    Any: "anything",
    type(None): "null",
}


def words(annotation: Any) -> str:
    """Render an annotation: `list of text`, `text or null`, `"query" or "batch"`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is Annotated:
        return words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(words(part) for part in inner)
    if origin is Literal:
        return " or ".join(f"`{part!r}`".replace("'", '"') for part in inner)
    if origin in (list, tuple, Sequence):
        return f"list of {words(inner[0])}"
    if origin in (dict, Mapping):
        return f"table of {words(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return str(getattr(annotation, "__name__", annotation))


def default(field: FieldInfo) -> str:
    """Render a field's default; empty where it must be given."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return "`null`" if value is None else f"`{value!r}`".replace("'", '"')


def bounds(field: FieldInfo) -> str:
    """Render what a field's value must satisfy besides its type."""
    found = []
    for item in field.metadata:
        for name, said in _BOUNDS.items():
            value = getattr(item, name, None)
            if value is not None:
                found.append(said.format(value))
    return ", ".join(found)


_BOUNDS = {
    "gt": "more than {}",
    "ge": "at least {}",
    "lt": "less than {}",
    "le": "at most {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "matches `{}`",
}
