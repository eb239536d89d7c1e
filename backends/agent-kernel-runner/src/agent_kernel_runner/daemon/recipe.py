"""Recipes: how a service is started this time, from its definition and what was asked for."""

from __future__ import annotations

import os
import re
import stat

from agent_kernel_runner.daemon.builtin_services import (
    built_in,
    find_program,
    programs_of,
    search_path,
)
from agent_kernel_runner.daemon.definitions import (
    LARGEST_FILE,
    Action,
    BadDefinition,
    Definition,
    fill,
    read_definition,
)
from agent_kernel_runner.daemon.journal import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent_kernel_runner.daemon.requests import ServiceStart
    from agent_kernel_runner.daemon.settings import Settings

DEFINITIONS = "/etc/backend.ai/service-defs"
"""Where images have their definitions; ``BACKENDAI_SERVICE_DEFS`` names another directory."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_LONG = 1024


class Refusal(Exception):
    """Raised when a service cannot be started or ended; has a code, and what it said at last."""

    def __init__(self, code: str, message: str, log: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.log = log


class Recipe:
    """The actions, the command and the environment of one start.

    Args:
        definition: How the service is started in general.
        program: What a definition of ours found; empty for others.
        request: What was asked for.
        settings: Of the kernel.
        directory: Where the service's own files lie.

    Raises:
        Refusal: when an option is asked for that the definition does not allow.
        BadDefinition: when a template of its environment cannot be filled in.
    """

    def __init__(
        self,
        definition: Definition,
        program: str,
        request: ServiceStart,
        settings: Settings,
        directory: str,
    ) -> None:
        self.actions: list[Action] = definition.prestart
        self.values: dict[str, str | list[str]] = {
            "name": request.name,
            "protocol": request.protocol,
            "host": request.host,
            "ports": list(map(str, request.ports)),
            "runtime_path": settings.runtime_path,
            "home": os.environ.get("HOME", settings.work_dir),
            "directory": directory,
            "program": program,
            "shell": find_program("bash", "/bin:/usr/bin") or "/bin/sh",
            "session_env": _session_env(),
        }
        self.env = {
            **os.environ,
            **{name: fill(value, self.values) for name, value in definition.env.items()},
        }
        self.path = search_path(self.env, settings.runtime_path)
        self._definition = definition
        self._arguments = self._choose(request.options)

    def command(self) -> list[str]:
        """Put the command together, once the actions have been done."""
        words = [*self._definition.command, *_defaults(self._definition, self._arguments)]
        return [*(fill(word, self.values) for word in words), *_words(self._arguments)]

    def resolved(self, command: list[str]) -> list[str]:
        """Find the program of a command.

        Raises:
            BadDefinition: when it is not there.
        """
        program = find_program(command[0], self.path)
        if program is None:
            raise BadDefinition(f"there is no program {command[0]}")
        return [program, *command[1:]]

    def _choose(self, options: dict[str, str]) -> dict[str, str]:
        """Sort the options: variables go to the environment, arguments are returned."""
        definition = self._definition
        arguments: dict[str, str] = {}
        unknown: list[str] = []
        for key, value in options.items():
            spelled = (each for each in (key, f"--{key}") if each in definition.allowed_arguments)
            if key in definition.allowed_envs:
                self.env[key] = value
            elif argument := next(spelled, ""):
                arguments[argument] = value
            else:
                unknown.append(key[:64])
        if unknown:
            known = ", ".join([*definition.allowed_envs, *definition.allowed_arguments, "timeout"])
            raise Refusal("invalid", f"it takes no option {', '.join(unknown)}; known: {known}")
        return arguments


def find_definition(name: str, settings: Settings) -> tuple[Definition, str]:
    """Find how a service is started: as the image says, or as we do where its program is there.

    Returns:
        The definition, and the program that it is for when it is ours.

    Raises:
        Refusal: when there is no definition.
        BadDefinition: when the image's has a fault.
    """
    directory = os.environ.get("BACKENDAI_SERVICE_DEFS") or DEFINITIONS
    path = f"{directory}/{name}.json"
    data = _read_regular(path, LARGEST_FILE + 1)
    if data is not None:
        definition, warnings = read_definition(data)
        for warning in warnings:
            note(f"{path}: {warning}")
        return definition, ""
    found = built_in(name, search_path(os.environ, settings.runtime_path))
    if found is not None:
        return found
    programs = programs_of(name)
    also = f", and no {' or '.join(programs)}" if programs else ""
    raise Refusal("not-found", f"nothing says how it is started: there is no {path}{also}")


def _read_regular(path: str, size: int) -> bytes | None:
    """Read the beginning of a file; None when it is not there or is no regular file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(file, size) if stat.S_ISREG(os.fstat(file).st_mode) else None
    finally:
        os.close(file)


def _defaults(definition: Definition, chosen: dict[str, str]) -> list[str]:
    words: list[str] = []
    for argument, value in definition.default_arguments.items():
        if argument in chosen:
            continue
        values = [] if value is None else [value] if isinstance(value, str) else value
        words += [argument, *values]
    return words


def _words(arguments: dict[str, str]) -> list[str]:
    """Spell chosen arguments; one without a value is a flag."""
    return [word for pair in arguments.items() for word in pair if word]


def _session_env() -> str:
    """Say to sshd what its sessions have of the kernel's variables: those that need no quotes."""
    told = [f"{k}={v}" for k, v in os.environ.items() if _PLAIN.fullmatch(v) and len(v) < _LONG]
    return f"SetEnv {' '.join(sorted(told))}" if told else ""
