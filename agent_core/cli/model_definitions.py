"""Model definitions as they are given on the command line: files of YAML or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

_OPTION: Final = "--model-definition"
_LARGEST: Final = 1 << 20  # what the agent refuses with a better reason is not read in whole


def read_model_definition(source: str) -> Any:
    """Read a file as plain JSON data; a usage error when it cannot be read."""
    import json

    try:
        with Path(source).open(encoding="utf-8") as file:
            text = file.read(_LARGEST)
    except OSError as exc:
        raise click.BadParameter(f"{source}: {exc.strerror}", param_hint=_OPTION) from exc
    except UnicodeDecodeError as exc:
        raise click.BadParameter(f"{source} is not text in UTF-8", param_hint=_OPTION) from exc
    try:
        data = json.loads(text)
    except ValueError as exc:
        if source.endswith(".json"):
            raise click.BadParameter(f"{source} is not JSON: {exc}", param_hint=_OPTION) from exc
        data = _read_yaml(source, text)
    if data is None:
        raise click.BadParameter(f"{source} is empty", param_hint=_OPTION)
    return data


def _read_yaml(source: str, text: str) -> Any:
    import json

    try:
        import yaml
    except ImportError as exc:
        raise click.UsageError(
            f"{source} is not JSON, and YAML cannot be read here. "
            "Install what reads it with: pip install 'agent-core[yaml]'"
        ) from exc
    try:
        # What YAML has and JSON has not, such as dates, is text for the agent.
        return json.loads(json.dumps(yaml.safe_load(text), default=str))
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise click.BadParameter(f"{source} is not YAML: {exc}", param_hint=_OPTION) from exc
