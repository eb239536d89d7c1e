"""Model definitions: what a kernel serves, as files of the name say it, with every fault named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from agent_core.contracts.models import HealthCheck, ModelService, PreStartAction
from agent_core.contracts.schema import faults as schema_faults
from agent_core.kernels.service_ports import ServicePort, read_services

MOST: Final = 16
"""The most models of a kernel."""

_LONGEST: Final = 16 << 10
_IN_ALL: Final = 64 << 10
_TOLD: Final = 12
_FAULT: Final = 300

_TEXT: Final = {"type": "string", "maxLength": _LONGEST, "pattern": r"^[^\x00]*$"}
_FULL: Final = {**_TEXT, "minLength": 1}
_WORDS: Final = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 256}
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": 86400}
_LINES: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 4096}]}
_MODE: Final = {"type": "string", "pattern": r"^0?[0-7]{3}\Z"}


def _table(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*required],
        "additionalProperties": False,
    }


_ACTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "write_file": _table(
        ("filename", "body"), filename=_FULL, body=_LINES, mode=_MODE, append={"type": "boolean"}
    ),
    "mkdir": _table(("path",), path=_FULL),
    "run_command": _table(("command",), command=_WORDS),
    "log": _table(("message",), message=_TEXT, debug={"type": "boolean"}),
}
_CHECK: Final = _table(
    (),
    path={**_FULL, "pattern": r"^/[!-~]*\Z"},
    max_retries={"type": "integer", "minimum": 0, "maximum": 1000},
    max_wait_time={**_SECONDS, "minimum": 0.01, "maximum": 600},
    interval={**_SECONDS, "minimum": 0.05},
    expected_status_code={"type": "integer", "minimum": 100, "maximum": 599},
    initial_delay=_SECONDS,
)
_SERVICE: Final = _table(
    ("start_command", "port"),
    pre_start_actions={
        "type": "array",
        "maxItems": 64,
        "items": _table(("action",), action={"enum": [*_ACTIONS]}, args={"type": "object"}),
    },
    start_command={"anyOf": [_FULL, _WORDS]},
    shell=_TEXT,
    port={"type": "integer"},
    health_check={**_CHECK, "type": ["object", "null"]},
)
_MODEL: Final = _table(
    ("name", "service"),
    name={"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z"},
    model_path=_TEXT,
    service=_SERVICE,
    metadata={"type": ["object", "null"]},
)
SCHEMA: Final = _table(
    ("models",), models={"type": "array", "items": _MODEL, "minItems": 1, "maxItems": MOST}
)
"""The form of a definition, as JSON Schema; ``metadata`` is for people, and passed over."""


def read_models(value: object) -> tuple[tuple[ModelService, ...], list[str]]:
    """Read a definition; returns its models, none when it has a fault, and every fault in words."""
    if value is None:
        return (), []
    found = [fault[:_FAULT] for fault in _faults(value)]
    if len(found) > _TOLD:
        found = [*found[:_TOLD], f"and {len(found) - _TOLD} faults more"]
    if found or not isinstance(value, Mapping):
        return (), found
    return tuple(map(_model, value["models"])), []


def published(
    models: Sequence[ModelService], services: Sequence[ServicePort]
) -> tuple[tuple[ServicePort, ...], list[str]]:
    """Add the port of each model to what is published, unless it is there by the model's name.

    Returns:
        All services, and every fault in words.
    """
    faults, wanted = list[str](), [service.to_data() for service in services]
    known = {service.name: service for service in services}
    for model in models:
        if model.name not in known:
            ports = [model.port]
            wanted.append({"name": model.name, "protocol": "http", "container_ports": ports})
        elif (has := known[model.name].container_ports) and has[0] != model.port:
            faults.append(
                f"{model.name!r} answers on port {model.port}, and ports publishes it on {has[0]}"
            )
    everything, more = read_services(wanted)
    return everything, faults + more


def to_data(models: Sequence[ModelService]) -> dict[str, Any]:
    """Render models as a definition, in plain JSON data, with every default said."""
    return {"models": [_data(model) for model in models]}


def service_data(model: ModelService) -> dict[str, Any]:
    """Render what serves a model."""
    command = model.start_command
    check = asdict(model.health_check)
    return {
        "pre_start_actions": [
            {"action": each.action, "args": dict(each.args)} for each in model.pre_start_actions
        ],
        "start_command": command if isinstance(command, str) else [*command],
        "shell": model.shell,
        "port": model.port,
        "health_check": {key: value for key, value in check.items() if key != "path" or value},
    }


def _data(model: ModelService) -> dict[str, Any]:
    return {"name": model.name, "model_path": model.model_path, "service": service_data(model)}


def _faults(value: object) -> Iterator[str]:
    if why := _unwritable(value):
        yield why
        return
    found = [*schema_faults(value, SCHEMA, "")]
    yield from (fault.strip() for fault in found)
    if found or not isinstance(value, Mapping):
        return
    names = [model["name"] for model in value["models"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"models: {name!r} is there twice"
    for number, model in enumerate(value["models"]):
        for index, action in enumerate(model["service"].get("pre_start_actions", ())):
            where = f"models[{number}] service pre_start_actions[{index}] args"
            yield from schema_faults(action.get("args", {}), _ACTIONS[action["action"]], where)


def _unwritable(value: object) -> str | None:
    """Say why a value is not looked at in depth, where it is not to be."""
    try:
        size = len(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return "it has a character that is none"
    except (TypeError, ValueError, RecursionError) as exc:
        return f"it is no JSON: {exc}"
    return f"it is larger than {_IN_ALL >> 10} KiB" if size > _IN_ALL else None


def _model(table: Mapping[str, Any]) -> ModelService:
    service = table["service"]
    command = service["start_command"]
    return ModelService(
        name=table["name"],
        port=int(service["port"]),
        start_command=command if isinstance(command, str) else tuple(command),
        model_path=table.get("model_path", ""),
        shell=service.get("shell", ""),
        pre_start_actions=tuple(
            PreStartAction(each["action"], each.get("args", {}))
            for each in service.get("pre_start_actions", ())
        ),
        health_check=_check(service.get("health_check") or {}),
    )


def _check(table: Mapping[str, Any]) -> HealthCheck:
    given = dict[str, Any](table)
    for name in given.keys() & {"max_retries", "expected_status_code"}:
        given[name] = int(given[name])  # JSON has one kind of number
    return HealthCheck(**given)
