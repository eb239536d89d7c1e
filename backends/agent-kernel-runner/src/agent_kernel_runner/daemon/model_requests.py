"""What the agent asks about models, checked before anything relies on it."""

from __future__ import annotations

from agent_kernel_runner.daemon.definitions import MOST, Action, action_fault
from agent_kernel_runner.daemon.requests import BadRequest, parse_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MOST_SECONDS = 86400.0
_MOST_TIMES = 10_000


class Check:
    """How a model is asked how it is; see `HealthCheck` of the contract."""

    __slots__ = ("delay", "expected", "interval", "path", "retries", "wait")

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.path = _text(table, "path", "")
        self.retries = int(_number(table, "max_retries", 10, _MOST_TIMES))
        self.wait = max(0.01, _number(table, "max_wait_time", 15.0))
        self.interval = max(0.01, _number(table, "interval", 10.0))
        self.expected = int(_number(table, "expected_status_code", 200))
        self.delay = _number(table, "initial_delay", 0.0)

    @property
    def patience(self) -> float:
        """Seconds from the start within which it has to answer as it should."""
        return self.delay + max(1, self.retries) * self.wait


class ModelStart:
    """What is asked when a model is to be served.

    Attributes:
        run_id: The request's id.
        name: The model.
        host: Where it has to listen.
        port: On which port.
        path: Where its command runs; empty for where code runs.
        command: Its words, or one line for the shell.
        shell: The shell of a line; empty for the usual one.
        actions: What is done before.
        check: How it is asked how it is.
        anew: Whether one that has failed or was stopped is started.
    """

    __slots__ = (
        "actions",
        "anew",
        "check",
        "command",
        "host",
        "name",
        "path",
        "port",
        "run_id",
        "shell",
    )

    def __init__(self, message: Mapping[str, Any]) -> None:
        service = _table(message, "service")
        self.run_id = _text(message, "run_id")
        self.name = parse_service(message)
        self.host = _text(message, "host")
        self.port = int(_number(message, "port", 0, 65535))
        self.path = _text(service, "model_path", "")
        self.command = _command(service.get("start_command"))
        self.shell = _text(service, "shell", "")
        self.actions = _actions(service.get("pre_start_actions", []))
        self.check = Check(_table(service, "health_check"))
        self.anew = message.get("anew") is True


def _text(table: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or "\0" in value:
        raise BadRequest(f"{key} is no text")
    return value


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise BadRequest(f"{key} is no table")
    return value


def _number(
    table: Mapping[str, Any], key: str, default: float, most: float = _MOST_SECONDS
) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadRequest(f"{key} is no number up to {most:g}")
    return value


def _command(value: object) -> str | list[str]:
    if isinstance(value, list) and 0 < len(value) <= MOST:
        return [_text({"start_command": word}, "start_command") for word in value]
    return _text({"start_command": value}, "start_command")


def _actions(value: object) -> list[Action]:
    if not isinstance(value, list) or len(value) > MOST:
        raise BadRequest("pre_start_actions is no list of actions")
    for number, action in enumerate(value):
        if why := action_fault(action):
            raise BadRequest(f"pre_start_actions[{number}] {why}")
    return [Action(each["action"], each.get("args", {}), "") for each in value]
