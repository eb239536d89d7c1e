"""Loading the whole configuration: every source, every fault at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agent_core.config.checking import Checking, Origin, schema_of
from agent_core.config.faults import Fault, did_you_mean, invalid
from agent_core.config.model import SECRET, AgentConfig, Section, kebab, masked
from agent_core.config.sources import (
    Layer,
    find_file,
    overrides_layers,
    read_file,
    sets_keys,
)
from agent_core.config.vocabulary import KeyPath


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it comes from.

    Attributes:
        config: The checked configuration.
        warnings: What the operator should know, one sentence each.
        path: The file that was read, or None when the defaults stand alone.
        origins: For each key that is set, such as ``agent.id``, by whom: the file's path,
            ``$VARIABLE`` or ``command line``.
        later: What was set of the keys that take effect with a later feature, secrets masked.
        found: The same as ``origins``, with what is needed to find the lines.
    """

    config: AgentConfig
    warnings: tuple[str, ...]
    path: Path | None
    origins: Mapping[str, str]
    later: Mapping[str, Any]
    found: Mapping[KeyPath, Origin]

    def line(self, key: str) -> int | None:
        """Find the line of the file where a key is set; None where no file sets it."""
        origin = self.found.get(tuple(key.split(".")))
        return None if origin is None else origin.line()


def load(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Load the configuration: the file, over it the environment, over it the overrides.

    Args:
        path: The file; by default $AGENT_CONFIG_FILE or the first one of the search order, and
            the embedded defaults when there is none.
        overrides: Values from the command line by dotted key, such as ``{"agent.id": "i-a"}``.
        environ: The environment; by default the process's own.

    Raises:
        InvalidConfig: with every fault of every source in ``details["faults"]``: source, line,
            key, what and hint.
    """
    environ = os.environ if environ is None else environ
    chosen = find_file(path, environ)
    checking = Checking(schema_of(AgentConfig))
    for layer in _layers(chosen, environ, overrides or {}):
        checking.add(layer)
    config = _validated(checking)
    warnings = (*checking.warnings(), *_cautions(config))
    origins = {".".join(key): origin.layer.name for key, origin in checking.origins.items()}
    later = masked(checking.later) if checking.later else {}
    return Loaded(config, warnings, chosen, origins, later, checking.origins)


def _layers(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Iterator[Layer]:
    if path is not None:
        main = read_file(path)
        yield main
        yield from _beside(path, main.tree)
    if sets_keys(environ):
        from agent_core.config.environment import environment_layers

        yield from environment_layers(environ)
    yield from overrides_layers(overrides)


def _beside(path: Path, tree: Mapping[str, Any]) -> Iterator[Layer]:
    """Read ``agent.<backend>.toml`` beside the file, for the backend that the file names."""
    section = tree.get("agent")
    table = section if isinstance(section, Mapping) else {}
    backend = table.get("backend", table.get("mode"))
    if isinstance(backend, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", backend):
        beside = path.with_name(f"{path.stem}.{backend}{path.suffix}")
        if beside.is_file():
            yield read_file(beside)


def _validated(checking: Checking) -> AgentConfig:
    faults = [*checking.faults, *_later_faults(checking)]
    try:
        config = AgentConfig.model_validate(checking.tree)
    except ValidationError as exc:
        found = _faults(exc, checking, AgentConfig)
        raise invalid([*faults, *found]) from exc
    if faults:
        raise invalid(faults)
    return config


def _later_faults(checking: Checking) -> list[Fault]:
    """Judge the values of keys that take effect later, so that none surprises then."""
    if not checking.later:
        return []
    from agent_core.config.pending import PendingConfig

    try:
        PendingConfig.model_validate(checking.later)
    except ValidationError as exc:
        return _faults(exc, checking, PendingConfig)
    return []


def _faults(exc: ValidationError, checking: Checking, model: type[Section]) -> list[Fault]:
    return [_fault(error, checking.origins, model) for error in exc.errors(include_url=False)]


def _fault(error: ErrorDetails, origins: Mapping[KeyPath, Origin], model: type[Section]) -> Fault:
    path = tuple(str(part) for part in error["loc"])
    origin, rest = _nearest(origins, path)
    indexes = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"][rest:])
    key = ".".join(origin.spelled) + indexes if origin else ".".join(path)
    what, hint = _what(error), _hint(error, path, model)
    if any(SECRET.search(part) for part in path):
        what = what.split(", not ")[0]
    if origin is None:
        return Fault("the configuration", None, key, what, hint)
    return Fault(origin.layer.name, origin.line(), key, what, hint)


def _nearest(origins: Mapping[KeyPath, Origin], path: KeyPath) -> tuple[Origin | None, int]:
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]], length
    return None, 0


_PRIVILEGED: Final = 1024

_PLAIN: Final = {
    "tuple_type": "should be a list",
    "string_type": "should be a text",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "path_type": "should be a text",
}
"""For each kind of fault whose usual words are those of the language, words for operators."""


def _what(error: ErrorDetails) -> str:
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "is an unknown key"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"should be a table, not {_shown(value)}"
    if kind == "string_pattern_mismatch":
        return f"{_shown(value)} is malformed"
    message = re.sub(r"^(Value error, |Input |String )", "", error["msg"])
    message = _PLAIN.get(kind, message)
    return message if kind == "value_error" else f"{message}, not {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _hint(error: ErrorDetails, path: KeyPath, root: type[Section]) -> str:
    model, description = _describe(path, root)
    if error["type"] == "extra_forbidden" and model is not None:
        return did_you_mean(path[-1], [kebab(name) for name in model.model_fields])
    expected = re.findall(r"'([^']+)'", str((error.get("ctx") or {}).get("expected", "")))
    suggestion = did_you_mean(str(error["input"]), expected) if expected else ""
    return suggestion or description


def _describe(path: KeyPath, root: type[Section]) -> tuple[type[Section] | None, str]:
    model: type[Section] | None = root
    description = ""
    for part in path:
        info = model.model_fields.get(part.replace("-", "_")) if model else None
        if info is None:
            break
        description = info.description or ""
        model = _section_in(info.annotation)
    return model, description


def _section_in(annotation: Any) -> type[Section] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    sections = (c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return next(sections, None)


def _cautions(config: AgentConfig) -> Iterator[str]:
    address = config.agent.rpc_listen_addr
    if config.agent.rpc_insecure and address is not None:
        yield f"rpc-insecure = true: anyone who reaches {address} can run code on this node"
    first, last = config.container.port_range
    span = f"[container] port-range {first}-{last}"
    if first < _PRIVILEGED and os.geteuid() != 0:
        yield f"{span}: only root can listen on ports below {_PRIVILEGED}; they are passed over"
    if address is not None and first <= address.port <= last:
        yield f"{span} has the port of rpc-listen-addr, {address.port}, in it; kernels get others"
