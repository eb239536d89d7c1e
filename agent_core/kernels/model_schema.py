"""The form of a model definition, as JSON Schema: what is checked, and what the reference shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_core.contracts.models import HealthCheck

MOST: Final = 16
"""The most models of a kernel."""

_USUAL: Final = HealthCheck()
_LONGEST: Final = 16 << 10
_TEXT: Final = {"type": "string", "maxLength": _LONGEST, "pattern": r"^[^\x00]*$"}
_FULL: Final = {**_TEXT, "minLength": 1}
_WORDS: Final = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 256}
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": 86400}
_LINES: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 4096}]}
_MODE: Final = {"type": "string", "pattern": r"^0?[0-7]{3}\Z"}
_FLAG: Final = {"type": "boolean"}

Schema = Mapping[str, Any]


def _table(required: Sequence[str], **properties: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*required],
        "additionalProperties": False,
    }


def _said(schema: Schema, description: str, *default: object) -> dict[str, Any]:
    """Say what a key means, and what stands for it when it is left out."""
    usual = {"default": default[0]} if default else {}
    return {**schema, **usual, "description": description}


ACTIONS: Final[Mapping[str, Schema]] = {
    "write_file": _said(
        _table(
            ("filename", "body"),
            filename=_said(_FULL, "the file"),
            body=_said(_LINES, "its text, or its lines"),
            mode=_said(_MODE, "its permissions as octal text", "600"),
            append=_said(_FLAG, "whether it is written behind what is there", False),
        ),
        "write a file",
    ),
    "mkdir": _said(
        _table(("path",), path=_said(_FULL, "the directory")),
        "make a directory, and those above it",
    ),
    "run_command": _said(
        _table(("command",), command=_said(_WORDS, "the words of the command")),
        "run a command to its end, which has to be good",
    ),
    "log": _said(
        _table(
            ("message",),
            message=_said(_TEXT, "the line"),
            debug=_said(_FLAG, "passed over", False),
        ),
        "write a line to the kernel's log",
    ),
}
"""The arguments of each action before the start."""

CHECK: Final = _table(
    (),
    path=_said(
        _FULL,
        "what is asked for with HTTP; without it the port only has to take connections",
    ),
    max_retries=_said(
        {"type": "integer", "minimum": 0, "maximum": 1000},
        "how many checks in a row may fail, and how often it is started again after its end",
        _USUAL.max_retries,
    ),
    max_wait_time=_said(
        {**_SECONDS, "minimum": 0.01, "maximum": 600},
        "seconds that one check may take",
        _USUAL.max_wait_time,
    ),
    interval=_said({**_SECONDS, "minimum": 0.05}, "seconds between two checks", _USUAL.interval),
    expected_status_code=_said(
        {"type": "integer", "minimum": 100, "maximum": 599},
        "the status of HTTP that is the right answer",
        _USUAL.expected_status_code,
    ),
    initial_delay=_said(
        _SECONDS, "seconds after the start before the first check", _USUAL.initial_delay
    ),
)
"""How a model is asked how it is."""

SERVICE: Final = _table(
    ("start_command", "port"),
    start_command=_said(
        {"anyOf": [_FULL, _WORDS]}, "what serves it: one line for the shell, or words"
    ),
    port=_said({"type": "integer"}, "the port of the kernel on which it answers"),
    shell=_said(_TEXT, "the shell of a line; else `bash`, or `sh` where there is none"),
    pre_start_actions=_said(
        {
            "type": "array",
            "maxItems": 64,
            "items": _table(
                ("action",),
                action={"enum": [*ACTIONS]},
                args={"type": "object"},
            ),
        },
        "what is done before the first start: tables of `action` and `args`",
    ),
    health_check=_said({**CHECK, "type": ["object", "null"]}, "how it is asked how it is"),
)
"""How a model is served."""

MODEL: Final = _table(
    ("name", "service"),
    name=_said(
        {"type": "string", "minLength": 1},
        "its name, and that of the service that it is published as",
    ),
    model_path=_said(
        _TEXT, "the directory that its command and its files are in; else the work directory"
    ),
    service=_said(SERVICE, "how it is served"),
    metadata=_said({"type": ["object", "null"]}, "for people; passed over"),
)
"""One model."""

DEFINITION: Final = _table(
    ("models",),
    models=_said(
        {"type": "array", "items": MODEL, "minItems": 1, "maxItems": MOST}, "the models to serve"
    ),
)
"""A whole definition."""
