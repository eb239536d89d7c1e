"""What the agent asks, checked before anything relies on it."""

from __future__ import annotations

import re

from agent_kernel_runner.daemon.executor import QUERY, Run
from agent_kernel_runner.daemon.results import is_run_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_LONGEST_TIMEOUT = 1e9


_PORTS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class BadRequest(Exception):
    """Raised when a message lacks a field, or a field is not what the protocol says."""


class ServiceStart:
    """What is asked when a service is to be started.

    Attributes:
        run_id: The request's id.
        name: The service.
        protocol: What it speaks.
        host: Where it has to listen.
        ports: On which ports, the first of which must answer.
        options: For its definition.
        timeout: Seconds that it has to answer.
    """

    __slots__ = ("host", "name", "options", "ports", "protocol", "run_id", "timeout")

    def __init__(self, message: Mapping[str, Any]) -> None:
        self.run_id = _text(message, "run_id")
        self.name = parse_service(message)
        self.protocol = _text(message, "protocol")
        self.host = _text(message, "host")
        self.ports = _ports(message.get("ports"))
        self.options = _options(message.get("options"))
        self.timeout = _timeout(message.get("timeout")) or 30.0


def parse_service(message: Mapping[str, Any]) -> str:
    """Read the name of a service, which is also one of files.

    Raises:
        BadRequest: when it is none.
    """
    name = _text(message, "name")
    if not _NAME.fullmatch(name):
        raise BadRequest("name names no service")
    return name


def parse_run(message: Mapping[str, Any]) -> Run:
    """Read an ``execute``.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    run_id, mode = message.get("run_id"), message.get("mode", QUERY)
    if not is_run_id(run_id):
        raise BadRequest("run_id is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if not isinstance(mode, str):
        raise BadRequest("mode is no text")
    return Run(
        str(run_id),
        mode,
        _text(message, "code"),
        _options(message.get("options")),
        _timeout(message.get("timeout")),
    )


def parse_completion(message: Mapping[str, Any]) -> tuple[str, str, int]:
    """Read a ``complete``: the request's id, the code, the cursor.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    cursor = message.get("cursor")
    if not isinstance(cursor, int) or cursor < 0:
        raise BadRequest("cursor is no position")
    return _text(message, "run_id"), _text(message, "code"), cursor


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{key} is no text")
    return value


def _ports(value: object) -> list[int]:
    if not isinstance(value, list) or not 0 < len(value) <= _PORTS:
        raise BadRequest("ports is no list of ports")
    if not all(isinstance(port, int) and 0 < port < 1 << 16 for port in value):
        raise BadRequest("ports has one that is none")
    return value


def _options(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadRequest("options is no object of texts")
    return value


def _timeout(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest("timeout is no number of seconds")
    if not 0 < value < _LONGEST_TIMEOUT:
        raise BadRequest("timeout is out of range")
    return float(value)
