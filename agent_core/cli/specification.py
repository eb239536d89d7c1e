"""What is asked of a kernel on the command line, as the specification that the agent reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agent_core.cli.dotfiles import read_dotfile
from agent_core.cli.model_definitions import read_model_definition
from agent_core.cli.options import assignment

F = TypeVar("F", bound=Callable[..., Any])

_PORT: Final = "A port to publish, such as web:http:8080 or tb:tcp:[6006,6007]."
_DOTFILE: Final = "A file of yours below the work directory, such as .vimrc=my/vimrc."
_MODELS: Final = "Models to serve: a file of YAML or JSON."
_COMMAND: Final = "A command to run once; the kernel ends with it."
_BOOTSTRAP: Final = "A script to run at each start, before any code."
_LARGEST: Final = 1 << 20  # what the agent refuses with a better reason is not read in whole

_STARTUP: Final = (
    click.option("--startup-command", metavar="COMMAND", help=_COMMAND),
    click.option(
        "--startup-timeout",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="How long it may run.",
    ),
    click.option("--bootstrap", "bootstrap_script", metavar="FILE", help=_BOOTSTRAP),
)
_KERNEL: Final = (
    click.option("--image", required=True, help="One of `agentctl images list`."),
    click.option("--slot", "slots", multiple=True, metavar="SLOT=AMOUNT", help="Such as mem=256m."),
    click.option("--env", multiple=True, metavar="KEY=VALUE", help="A variable."),
    click.option("--port", "ports", multiple=True, metavar="NAME:PROTOCOL:PORT", help=_PORT),
    click.option("--dotfile", "dotfiles", multiple=True, metavar="PATH=FILE", help=_DOTFILE),
    click.option("--model-definition", metavar="FILE", help=_MODELS),
    click.option(
        "--pull", type=click.Choice(["missing", "always", "never"]), help="When to pull it."
    ),
    *_STARTUP,
    click.option("--session-id", metavar="ID", help="The session that it belongs to."),
    click.option("--kernel-id", metavar="ID", help="Its id; the same id twice makes one kernel."),
    click.option("--scratch-size", metavar="SIZE", help="A bound on its scratch storage."),
)


def kernel_options(command: F) -> F:
    """Let a command take all that one kernel can be asked to be."""
    return _with(command, _KERNEL)


def startup_options(command: F) -> F:
    """Let a command take what a kernel is to do by itself."""
    return _with(command, _STARTUP)


def _with(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def specification(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Make the specification of what the options have said; a usage error names what is wrong."""
    spec = {name: _READ.get(name, _as_it_is)(value) for name, value in asked.items()}
    return {name: value for name, value in spec.items() if value is not None}


def amounts(texts: tuple[str, ...]) -> dict[str, str]:
    """Read ``SLOT=AMOUNT``, each slot once."""
    found: dict[str, str] = {}
    for slot, amount in (assignment(text, "--slot") for text in texts):
        if slot in found:
            raise click.BadParameter(f"{slot} is given twice", param_hint="--slot")
        found[slot] = amount
    return found


def variables(texts: tuple[str, ...]) -> dict[str, str]:
    """Read ``KEY=VALUE``; the last of one key counts."""
    return dict(assignment(text, "--env") for text in texts)


def _script(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return file.read(_LARGEST)
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}", param_hint="--bootstrap") from exc
    except UnicodeDecodeError as exc:
        what = f"{path} is not text in UTF-8"
        raise click.BadParameter(what, param_hint="--bootstrap") from exc


def _as_it_is(value: object) -> object:
    return value


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "slots": amounts,
    "env": variables,
    "ports": lambda texts: [*texts] or None,
    "dotfiles": lambda texts: [read_dotfile(text) for text in texts] or None,
    "bootstrap_script": _script,
    "model_definition": lambda path: path and read_model_definition(path),
}
