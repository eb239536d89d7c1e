"""Dotfiles as they are asked for on the command line."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

import click

from agent_core.cli.options import assignment

_OPTION: Final = "--dotfile"
_LARGEST: Final = 1 << 20  # what the agent refuses with a better reason is not read in whole


def read_dotfile(text: str) -> dict[str, str]:
    """Read the file of ``PATH=FILE``, with its permissions; a usage error when that cannot be."""
    path, source = assignment(text, _OPTION)
    try:
        with Path(source).open(encoding="utf-8", newline="") as file:
            data = file.read(_LARGEST)
            mode = stat.S_IMODE(Path(source).stat().st_mode) & 0o777
    except OSError as exc:
        raise click.BadParameter(f"{source}: {exc.strerror}", param_hint=_OPTION) from exc
    except UnicodeDecodeError as exc:
        raise click.BadParameter(f"{source} is not text in UTF-8", param_hint=_OPTION) from exc
    return {"path": path, "data": data, "perm": f"{mode:03o}"}
