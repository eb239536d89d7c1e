"""The environment as a source of configuration, read by pydantic-settings.

This module is imported only when a variable sets a key: pydantic-settings takes a fifth of the
time in which an agent has to answer its first call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from agent_core.config.model import AgentConfig
from agent_core.config.sources import DELIMITER, PREFIX, Layer, nested, variables
from agent_core.config.vocabulary import SHORT_VARIABLES


class _Base(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="ignore"
    )


class _Source(EnvSettingsSource):
    """Reads a given environment, and lists that are written with commas."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name.lower(): value for name, value in environ.items()}
        super().__init__(_settings_class())

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        fallback = _items(value) if field is not None and _is_list(field) else value
        return _json_or(fallback, value)


def _json_or(fallback: Any, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return fallback


def _settings_class() -> type[_Base]:
    # The sections lose their aliases here: with one, pydantic-settings drops the prefix and
    # a variable named `container` would set a section.
    fields: dict[str, Any] = {
        name: (field.annotation, None) for name, field in AgentConfig.model_fields.items()
    }
    return create_model("EnvironmentSettings", __base__=_Base, **fields)


def _is_list(field: FieldInfo) -> bool:
    return "tuple" in str(field.annotation)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def environment_layers(environ: Mapping[str, str]) -> Iterator[Layer]:
    """Yield one layer for each variable that sets a key, parents before children."""
    here = Path.cwd()
    for name, path in SHORT_VARIABLES.items():
        if name in environ:
            yield Layer(f"${name}", nested(path, environ[name]), here)
    names = variables(environ)
    tree = _Source({name: environ[name] for name in names})()
    for name, path in sorted(names.items(), key=lambda item: item[1]):
        raw = environ[name]
        value = _dig(tree, name[len(PREFIX) :].lower().split(DELIMITER), raw)
        # Nobody knows the types in a plugin's own table before its schema does.
        if path[0] == "plugin" or (value is raw and raw.startswith(("[", "{"))):
            value = _json_or(raw, raw)
        yield Layer(f"${name}", nested(path, value), here)


def _dig(tree: Any, parts: list[str], raw: str) -> Any:
    for part in parts:
        if not isinstance(tree, Mapping) or part not in tree:
            return raw
        tree = tree[part]
    return tree
