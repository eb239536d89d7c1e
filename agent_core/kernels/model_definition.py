"""Model definitions: what a kernel serves, as files of the name say it, with every fault named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from agent_core.contracts.models import HealthCheck, ModelService, PreStartAction
from agent_core.contracts.schema import faults as schema_faults
from agent_core.kernels.model_schema import ACTIONS, DEFINITION
from agent_core.kernels.service_ports import ServicePort, read_services

LARGEST: Final = 64 << 10
"""The most bytes of a definition, written as JSON."""

_PATH: Final = re.compile(r"/[!-~]*")
_TOLD: Final = 12
_FAULT: Final = 300


def read_models(value: object) -> tuple[tuple[ModelService, ...], list[str]]:
    """Read a definition; returns its models, none when it has a fault, and every fault in words.

    Whether a name and a port can be published is for `published` to say.
    """
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
    found = [*schema_faults(value, DEFINITION, "")]
    yield from (fault.strip() for fault in found)
    if found or not isinstance(value, Mapping):
        return
    names = [model["name"] for model in value["models"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"models: {name!r} is there twice"
    for number, model in enumerate(value["models"]):
        yield from _service_faults(model["service"], f"models[{number}] service")


def _service_faults(service: Mapping[str, Any], where: str) -> Iterator[str]:
    path = (service.get("health_check") or {}).get("path", "/")
    if not _PATH.fullmatch(path):
        yield f"{where} health_check path is {path!r}, not a path such as '/health'"
    for index, action in enumerate(service.get("pre_start_actions", ())):
        of = f"{where} pre_start_actions[{index}] args"
        yield from schema_faults(action.get("args", {}), ACTIONS[action["action"]], of)


def _unwritable(value: object) -> str | None:
    """Say why a value is not looked at in depth, where it is not to be."""
    try:
        size = len(json.dumps(value, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return "it has a character that is none"
    except (TypeError, ValueError, RecursionError) as exc:
        return f"it is no JSON: {exc}"
    return f"it is larger than {LARGEST >> 10} KiB" if size > LARGEST else None


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
