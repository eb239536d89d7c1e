"""Service definitions: how a named service is started, as files of images say it.

A file ``NAME.json`` is an object; all of its keys may be left out but ``command`` (or ``noop``):
``command`` (words), ``prestart`` (actions before it), ``env``, ``allowed_envs`` and
``allowed_arguments`` (what whoever starts the service may set), ``default_arguments``,
``url_template`` (for whoever shows an address), ``noop`` (nothing is started, only waited for).
In texts ``{ports[0]}``, ``{host}``, ``{runtime_path}`` and the like are filled in.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Values = Mapping[str, str | list[str]]

LARGEST_FILE = 64 << 10
"""Bytes of the largest definition file."""

MOST = 256
"""Items of the longest list or table."""

LONGEST = 16 << 10
"""Characters of the longest text."""

ACTIONS = {
    "write_file": {"filename", "body", "mode", "append"},
    "write_tempfile": {"body", "mode"},
    "mkdir": {"path"},
    "run_command": {"command"},
    "log": {"message", "debug"},
}
"""The actions of ``prestart``, each with its arguments."""

_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)(?:\[(\w+)\])?\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HIGHEST_MODE = 0o777


class BadDefinition(Exception):
    """Raised when a service's definition is not what this module describes; names every fault."""


class Action:
    """One action before the start: its name, its arguments, and what its result is called."""

    __slots__ = ("args", "name", "ref")

    def __init__(self, name: str, args: Mapping[str, Any], ref: str) -> None:
        self.name = name
        self.args = args
        self.ref = ref


class Definition:
    """How one service is started.

    Args:
        table: What its file says; it has no fault.
    """

    __slots__ = (
        "allowed_arguments",
        "allowed_envs",
        "command",
        "default_arguments",
        "env",
        "noop",
        "prestart",
    )

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.command: list[str] = table.get("command", [])
        self.env: dict[str, str] = table.get("env", {})
        self.allowed_envs: list[str] = table.get("allowed_envs", [])
        self.allowed_arguments: list[str] = table.get("allowed_arguments", [])
        self.default_arguments: dict[str, Any] = table.get("default_arguments", {})
        self.noop: bool = table.get("noop", False)
        self.prestart = [
            Action(each["action"], each.get("args", {}), each.get("ref", ""))
            for each in table.get("prestart", [])
        ]


def read_definition(data: bytes) -> tuple[Definition, list[str]]:
    """Read a definition file; returns what is in it, and warnings of what means nothing.

    Raises:
        BadDefinition: with every fault.
    """
    import json

    if len(data) > LARGEST_FILE:
        raise BadDefinition(f"it is larger than {LARGEST_FILE >> 10} KiB")
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise BadDefinition(f"it is not JSON: {type(exc).__name__}: {exc}") from exc
    if not isinstance(table, dict):
        raise BadDefinition("it is no object")
    if faults := [*_faults(table)]:
        raise BadDefinition("; ".join(faults[:8]))
    return Definition(table), [*_unknown(table)]


def _faults(table: Mapping[str, Any]) -> Iterator[str]:
    for key, check in _CHECKS.items():
        if key in table and (why := check(table[key])):
            yield f"{key} {why}"
    if not table.get("command") and table.get("noop") is not True:
        yield "command is missing"
    prestart = table.get("prestart")
    if isinstance(prestart, list) and len(prestart) <= MOST:
        for number, action in enumerate(prestart):
            if why := action_fault(action):
                yield f"prestart[{number}] {why}"


def _unknown(table: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(table.keys() - _CHECKS.keys()):
        yield f"the unknown key {key[:64]!r} is ignored"
    for number, action in enumerate(table.get("prestart", [])):
        for key in sorted(action.keys() - {"action", "args", "ref"}):
            yield f"prestart[{number}]: the unknown key {key[:64]!r} is ignored"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST and "\0" not in value


def _texts(value: object) -> str | None:
    if not isinstance(value, list) or len(value) > MOST or not all(map(_is_text, value)):
        return f"is not a list of at most {MOST} texts"
    return None


def _names(value: object) -> str | None:
    if isinstance(value, dict) and all(map(_VARIABLE.fullmatch, value)):
        return None if not _texts([*value.values()]) else "is not a table of texts"
    return "is not a table whose keys are names of variables"


def _variables(value: object) -> str | None:
    if (why := _texts(value)) or not isinstance(value, list):
        return why
    wrong = [name for name in value if not _VARIABLE.fullmatch(name)]
    return f"has {wrong[0][:64]!r}, which names no variable" if wrong else None


def _defaults(value: object) -> str | None:
    if not isinstance(value, dict) or len(value) > MOST:
        return "is not a table of arguments"
    for each in value.values():
        if each is not None and not _is_text(each) and _texts(each):
            return "has a value that is neither a text, nor texts, nor null"
    return None


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "is neither true nor false"


def _list(value: object) -> str | None:
    right = isinstance(value, list) and len(value) <= MOST
    return None if right else f"is not a list of at most {MOST} actions"


def _text(value: object) -> str | None:
    return None if value is None or _is_text(value) else "is no text"


_CHECKS = {
    "command": _texts,
    "prestart": _list,
    "env": _names,
    "allowed_envs": _variables,
    "allowed_arguments": _texts,
    "default_arguments": _defaults,
    "url_template": _text,
    "noop": _flag,
}


def action_fault(action: object) -> str | None:
    """Say what is wrong with one action before a start; None when nothing is."""
    if not isinstance(action, dict):
        return "is no table"
    name, args, ref = action.get("action"), action.get("args", {}), action.get("ref", "")
    if not isinstance(name, str) or name not in ACTIONS:
        return f"has an action that is none of {', '.join(ACTIONS)}"
    if not isinstance(args, dict) or args.keys() - ACTIONS[name]:
        return f"has args other than {', '.join(sorted(ACTIONS[name]))}"
    if not isinstance(ref, str) or (ref and not _VARIABLE.fullmatch(ref)):
        return "has a ref that is no name"
    return _args_fault(name, args)


def _args_fault(name: str, args: Mapping[str, Any]) -> str | None:
    for key in {"write_file": ("filename",), "mkdir": ("path",), "log": ("message",)}.get(name, ()):
        if not _is_text(args.get(key)):
            return f"has no {key}"
    if name == "run_command" and (_texts(args.get("command")) or not args["command"]):
        return "has no command of words"
    body = args.get("body", "")
    if not _is_text(body) and _texts(body):
        return "has a body that is neither a text nor a list of lines"
    try:
        mode = read_mode(args.get("mode"))
    except ValueError:
        mode = -1
    return None if 0 <= mode <= _HIGHEST_MODE else "has a mode that is none, such as '644'"


def read_mode(value: object) -> int:
    """Read a file's mode, which stands as octal digits; without one only its owner may read it.

    Raises:
        ValueError: when it is none.
    """
    if value is None:
        return 0o600
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - one error for whatever is wrong
    return int(value, 8)


def fill(text: str, values: Values) -> str:
    """Fill a template in; ``{{`` and ``}}`` stand for braces, and other braces for themselves.

    Raises:
        BadDefinition: when it names a value that there is not.
    """

    def one(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        value = values.get(match[1])
        if isinstance(value, str) and match[2] is None:
            return value
        if isinstance(value, list) and match[2] is not None:
            if match[2].isdigit() and int(match[2]) < len(value):
                return value[int(match[2])]
            raise BadDefinition(f"{match[0]}: there are {len(value)} {match[1]}")
        raise BadDefinition(f"{match[0]} stands for nothing; known: {', '.join(sorted(values))}")

    return _FIELD.sub(one, text)
