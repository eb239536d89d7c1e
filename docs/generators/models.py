"""The reference of model definitions: every key, from the schema that they are checked by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent_core.contracts.models import ModelStatus
from agent_core.kernels.model_definition import LARGEST
from agent_core.kernels.model_schema import ACTIONS, CHECK, DEFINITION, MODEL, MOST, SERVICE
from generators.markdown import code, codes, table
from generators.source import member_docs

Schema = Mapping[str, Any]

_HEAD = f"""# Model definition

What a kernel serves, as the field `model_definition` of its specification and the files of
`agentctl kernels create --model-definition` say it. [Serve a model](../how-to/serve-models.md)
shows one at work. Those of other systems that are called `model-definition.yaml` have this form.

A definition has at most {MOST} models and {LARGEST >> 10} KiB. It is checked when the kernel is
asked for: every fault is named with its place, and a key that is not known is one. Keys in bold
cannot be left out.

"""
_ACTIONS = """
## Actions before the start { #actions }

In order, once in the life of a container; when one fails the model has failed. Paths that do not
begin with `/` are below `model_path`. Texts are taken as they are: nothing in them is filled in.

"""
_STATUSES = """
## Status { #status }

"""
_HEADER = ["key", "value", "default", "meaning"]
_PARTS = {
    "The file": DEFINITION,
    "Each of `models`": MODEL,
    "`service`": SERVICE,
    "`health_check`": CHECK,
}
_WORDS = {
    "string": "text",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "array": "list",
    "object": "table",
}


def page() -> str:
    """Write every key of a definition, the actions, and what becomes of a model."""
    parts = [_HEAD]
    for title, schema in _PARTS.items():
        parts += [f"\n## {title}\n\n", table(_HEADER, _rows(schema))]
    parts += [_ACTIONS, table(["action", "does", "args"], _actions())]
    told = member_docs(ModelStatus)
    statuses = [[code(each.value), told[each.name]] for each in ModelStatus]
    return "".join([*parts, _STATUSES, table(["status", "meaning"], statuses)])


def _rows(schema: Schema) -> Iterator[list[str]]:
    for key, entry in schema["properties"].items():
        default = code(json.dumps(entry["default"])) if "default" in entry else ""
        yield [_name(key, schema), _values(entry), default, entry["description"]]


def _name(key: str, schema: Schema) -> str:
    return f"**{code(key)}**" if key in schema["required"] else code(key)


def _actions() -> Iterator[list[str]]:
    for name, schema in ACTIONS.items():
        args = [
            f"{_name(key, schema)}: {entry['description']}"
            for key, entry in schema["properties"].items()
        ]
        yield [code(name), schema["description"], "; ".join(args)]


def _values(entry: Schema) -> str:
    if "enum" in entry:
        return codes(entry["enum"])
    if "anyOf" in entry:
        return " or ".join(map(_values, entry["anyOf"]))
    kinds = [entry["type"]] if isinstance(entry["type"], str) else entry["type"]
    words = " or ".join(_WORDS[kind] for kind in kinds if kind != "null")
    if entry.get("items", {}).get("type") == "string":
        words = "list of texts"
    if "maximum" in entry:
        return f"{words} from {entry['minimum']:g} to {entry['maximum']:g}"
    return words
