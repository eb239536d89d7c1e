"""How a plugin describes its configuration section: a subset of JSON Schema, and its check.

A documented subset, since a complete validator would bring more distributions than the rest of the
plugin host: type, enum, const, properties, required, additionalProperties, items, minItems,
maxItems, minLength, maxLength, minimum, maximum, exclusiveMinimum, pattern, anyOf and oneOf. A
schema with any other keyword that constrains is refused when the plugin loads, never half checked.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from agent_core.contracts.errors import (
    AgentError,
    InvalidConfig,
    PluginContractBroken,
    bullet_list,
)

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (Mapping,),
    "array": (list, tuple),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "$schema", "$id", "$comment"}
)
_LENGTHS: Final = {"minItems": 1, "minLength": 1, "maxItems": -1, "maxLength": -1}
_BOUNDS: Final[dict[str, tuple[str, Callable[[float, float], bool]]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
}
_CHECKED: Final = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern"}
) | {*_LENGTHS, *_BOUNDS, "anyOf", "oneOf"}


def section_fault(
    name: str, config: Mapping[str, Any], schema: Mapping[str, Any]
) -> AgentError | None:
    """Check a plugin's section ``[plugin.<name>]`` and return all its faults as one error."""
    where = f"[plugin.{name}]"
    try:
        found = list(faults(config, schema, where))
    except Exception as exc:  # noqa: BLE001 - a schema is the plugin's, and may be of any shape
        what = f"{where} cannot be checked by its schema: {type(exc).__name__}: {exc}"
        return PluginContractBroken(what, plugin=name, stage="configure")
    if not found:
        return None
    hint = f"Mend {where} in the configuration, then restart the agent."
    return InvalidConfig(bullet_list(found), hint=hint, details={"faults": found})


def schema_faults(schema: Any, where: str = "config_schema") -> Iterator[str]:
    """Yield what this host cannot check in a schema, each with its place."""
    if not isinstance(schema, Mapping):
        yield f"{where} is {type(schema).__name__}, not an object"
        return
    for keyword in sorted(set(schema) - _CHECKED - _ANNOTATIONS):
        yield f"{where} uses the keyword {keyword!r}, which this host does not check"
    names = schema.get("type", ())
    for name in [names] if isinstance(names, str) else names:
        if name not in _TYPES:
            yield f"{where} names the type {name!r}, which JSON Schema does not have"
    try:
        re.compile(schema.get("pattern", ""))
    except re.error as exc:
        yield f"{where} has a pattern that is no regular expression: {exc}"
    for name, child in schema.get("properties", {}).items():
        yield from schema_faults(child, f"{where}.{name}")
    if "items" in schema:
        yield from schema_faults(schema["items"], f"{where}.items")
    if not isinstance(schema.get("additionalProperties", True), bool):
        yield from schema_faults(schema["additionalProperties"], f"{where}.additionalProperties")
    for keyword in ("anyOf", "oneOf"):
        for index, child in enumerate(schema.get(keyword, ())):
            yield from schema_faults(child, f"{where}.{keyword}[{index}]")


def faults(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield every fault of a value, each naming its place, such as ``[plugin.acme] mode``."""
    names = schema.get("type")
    allowed = [names] if isinstance(names, str) else names
    if allowed and not any(_is(value, name) for name in allowed):
        yield f"{where} is {value!r}, not {' or '.join(allowed)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, not one of {', '.join(map(repr, schema['enum']))}"
    if "const" in schema and value != schema["const"]:
        yield f"{where} is {value!r}, not {schema['const']!r}"
    yield from _alternative_faults(value, schema, where)
    if isinstance(value, Mapping):
        yield from _object_faults(value, schema, where)
    elif isinstance(value, (str, list, tuple)):
        yield from _sequence_faults(value, schema, where)
    elif isinstance(value, (int, float)):
        yield from _number_faults(value, schema, where)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _alternative_faults(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    for keyword in ("anyOf", "oneOf"):
        tried = [list(faults(value, child, where)) for child in schema.get(keyword, ())]
        fitting = sum(1 for found in tried if not found)
        if tried and not fitting:
            yield " and ".join(dict.fromkeys("; ".join(found) for found in tried))
        elif keyword == "oneOf" and fitting > 1:
            yield f"{where} is {value!r}, which {fitting} of its alternatives admit"


def _object_faults(
    value: Mapping[str, Any], schema: Mapping[str, Any], where: str
) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where} {name} is missing"
    rest = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            yield from faults(item, properties[name], f"{where} {name}")
        elif rest is False:
            yield f"{where} {name} is not known; known: {', '.join(properties) or 'none'}"
        elif isinstance(rest, Mapping):
            yield from faults(item, rest, f"{where} {name}")


def _sequence_faults(value: Sequence[Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    unit = "Length" if isinstance(value, str) else "Items"
    for keyword, sign in _LENGTHS.items():
        bound = schema.get(keyword)
        if keyword.endswith(unit) and bound is not None and sign * len(value) < sign * bound:
            yield f"{where} has {len(value)} {'characters' if unit == 'Length' else 'items'};" + (
                f" at least {bound} are needed" if sign > 0 else f" at most {bound} are allowed"
            )
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{where} is {value!r}, which does not match {schema['pattern']!r}"
        return
    for index, item in enumerate(value):
        yield from faults(item, schema.get("items", {}), f"{where}[{index}]")


def _number_faults(value: float, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if math.isnan(value):
        yield f"{where} is not a number"
        return
    for keyword, (words, holds) in _BOUNDS.items():
        if keyword in schema and not holds(value, schema[keyword]):
            yield f"{where} is {value!r}; it must be {words} {schema[keyword]!r}"
