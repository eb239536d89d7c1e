"""The JSON Schema of agent.toml, for editors: every key, its type, bounds, default and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from agent_core.config.catalogue import Effect, Entry, entries
from agent_core.config.model import AgentConfig
from agent_core.config.pending import PendingConfig
from agent_core.config.refused import REFUSED
from agent_core.config.vocabulary import ALIASES, KeyPath

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""The dialect that editors of TOML know."""


_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}


class _Written(GenerateJsonSchema):
    """Describes values as they are written: what is read from a text may be one."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> Any:
        inner = super().function_before_schema(schema)
        return {"anyOf": [inner, {"type": "string"}]}


def schema() -> dict[str, Any]:
    """Build the schema of a whole file."""
    whole = _resolved(AgentConfig)
    for name, table in _resolved(PendingConfig)["properties"].items():
        _merge(whole["properties"], name, table)
    for entry in entries():
        if entry.effect is not Effect.REFUSED:
            _describe(_at(whole, entry.path), entry)
    _at(whole, ("agent", "rpc-listen-addr"))["anyOf"].append({"const": False})
    for path, alias in ALIASES.items():
        canonical = _at(whole, (*path[:-1], alias.key))
        words = f"another spelling of {alias.key}"
        spelled = {**canonical, "description": words, "deprecated": alias.deprecated}
        _at(whole, path[:-1])["properties"][path[-1]] = spelled
    for path, refusal in REFUSED.items():
        if refusal.harmless:
            words = f"refused with any other value: {refusal.why}; {refusal.instead}"
            accepted = {"enum": list(refusal.harmless), "description": words}
            _at(whole, path[:-1])["properties"][path[-1]] = accepted
    return {"$schema": DIALECT, "title": "agent.toml of agent-core", **_plain(whole)}


def _resolved(model: type[AgentConfig | PendingConfig]) -> dict[str, Any]:
    """Write a model's schema without references, so that two can be laid together."""
    whole = model.model_json_schema(by_alias=True, schema_generator=_Written)
    definitions = whole.pop("$defs", {})
    found: dict[str, Any] = _inlined(whole, definitions)
    return found


def _inlined(node: Any, definitions: Mapping[str, JsonSchemaValue]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    rest = {k: _inlined(v, definitions) for k, v in node.items() if k != "$ref"}
    if reference is None:
        return rest
    target = _inlined(definitions[reference.rpartition("/")[2]], definitions)
    return {**target, **rest}


def _merge(properties: dict[str, Any], name: str, table: dict[str, Any]) -> None:
    mine = properties.get(name)
    if mine is None:
        properties[name] = table
        return
    for key, below in table.get("properties", {}).items():
        _merge(mine["properties"], key, below)


def _at(whole: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    for part in path:
        whole = whole["properties"][part]
    return whole


def _describe(node: dict[str, Any], entry: Entry) -> None:
    later = f" (takes effect with {entry.note})" if entry.effect is Effect.LATER else ""
    node["description"] = f"{entry.meaning}{later}; {entry.value}"


def _plain(node: Any) -> Any:
    """Leave out titles and defaults of tables, which say nothing to who writes a file."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    is_table = node.get("type") == "object"
    # Bounds that stand beside a choice belong to its number.
    for bound, keyword in _BOUNDS.items():
        if bound in node:
            node = {k: v for k, v in node.items() if k != bound} | {keyword: node[bound]}
    return {
        key: {k: _plain(v) for k, v in value.items()} if key == "properties" else _plain(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and not (is_table and key == "default")
    }
