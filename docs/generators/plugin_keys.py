"""The reference of a plugin's own keys: values, defaults and meanings from its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent_backend_docker import arguments, declaration
from agent_backend_docker.backend import PLACES

from generators.markdown import code, codes, table
from generators.source import constant_docs

Schema = Mapping[str, Any]

_DOCKER = """# The Docker backend

What can be written in `[plugin.docker]`, and what the backend puts into each container of its own
accord. [Run kernels with Docker](../how-to/docker.md) shows it at work;
[the explanation](../explanation/docker-backend.md) says why it is so.

## Keys { #keys }

All may be left out. A fault in them keeps the agent from starting, and is named.

"""
_OFFERED = """
`network`, `swarm-enabled` and `log-driver` are also set by `[container] alternative-bridge`,
`[container] swarm-enabled` and `[container-logs] driver`, which say the same to any backend that
knows them. What stands in `[plugin.docker]` is over that.
"""
_PLACES = """
## Places { #places }

Every container sees the directories of its kernel at the same places, whatever they are called on
the node. The first is the working directory's parent: code begins in `/home/work`.

"""
_PLACE_MEANINGS = {
    "scratch": "its `work` is the kernel's scratch, to read and write",
    "config": "what the kernel was given, read-only but for `runner`, which its runner writes",
    "runner": "the runner's bundle, read-only",
    "run": "the socket to the agent, read-only",
}
_LABELS = """
## Labels { #labels }

By these the backend finds its containers and networks again. Edits that set one are refused.

"""
_LABEL_MEANINGS = {
    arguments.OWNER: "the id of the agent",
    arguments.RECORD: "what a lost ledger is made whole from; no secrets",
    arguments.DIGEST: "a digest of all that the container was made from",
}
_BESIDE = """
Beside them stand `ai.backend.kernel-id` and `ai.backend.session-id`, and the labels of plugins.
"""
_KEPT = """
## Linux capabilities { #linux-capabilities }

"""


def docker() -> str:
    """Write the keys of the Docker backend, and what it gives to every container."""
    schema = declaration.INFO.config_schema
    kept = constant_docs(declaration)["CAPABILITIES_KEPT"]
    places = [[code(getattr(PLACES, name)), means] for name, means in _PLACE_MEANINGS.items()]
    labels = [[code(label), _LABEL_MEANINGS[label]] for label in sorted(arguments.RESERVED)]
    parts = [_DOCKER, table(_HEADER, rows(schema)), _OFFERED, *_inner("plugin.docker", schema)]
    parts += [_PLACES, table(["path", "what is there"], places)]
    parts += [_LABELS, table(["label", "value"], labels), _BESIDE]
    parts += [_KEPT, f"{kept}\n\n{codes(declaration.CAPABILITIES_KEPT)}.\n"]
    return "".join(parts)


_HEADER = ["key", "value", "default", "meaning"]


def rows(schema: Schema) -> Iterator[list[str]]:
    """Yield each key of a schema with what it may be, its default and its meaning."""
    for key, entry in schema["properties"].items():
        default = json.dumps(entry["default"]) if "default" in entry else ""
        yield [code(key), value_words(entry), code(default), str(entry.get("description", ""))]


def value_words(entry: Schema) -> str:
    """Say in words what values a key takes."""
    if "enum" in entry:
        return " or ".join(code(json.dumps(value)) for value in entry["enum"])
    words = {
        "string": "a text",
        "boolean": "true or false",
        "integer": f"a whole number from {entry.get('minimum', 0)} on",
        "number": f"a number above {entry.get('exclusiveMinimum')}",
        "array": "a list of texts",
        "object": "a table for each name",
    }
    return words[entry["type"]]


def _inner(path: str, schema: Schema) -> Iterator[str]:
    """Write a section for each key that holds tables by name."""
    for key, entry in schema["properties"].items():
        inner = entry.get("additionalProperties")
        if isinstance(inner, Mapping):
            told = [[name, words, means] for name, words, _, means in rows(inner)]
            yield f"\n## [{path}.{key}.NAME] {{ #{key} }}\n\n{entry['description']}\n\n"
            yield table(["key", "value", "meaning"], told)
