"""Every key of the configuration as plain data, for the sample, the schema and the docs."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic.fields import FieldInfo

from agent_core.config.checking import section_in
from agent_core.config.meanings import EXAMPLES, LATER, MEANINGS
from agent_core.config.model import Address, AgentConfig, Section, kebab
from agent_core.config.pending import PendingConfig, feature_of
from agent_core.config.refused import REFUSED
from agent_core.config.vocabulary import HANDED, KeyPath


class Effect(StrEnum):
    """What setting a key does."""

    NOW = "in effect"
    HANDED = "handed to the selected plugins"
    LATER = "with a later feature"
    REFUSED = "refused"


class Entry(NamedTuple):
    """One key.

    Attributes:
        path: The key, from the outermost table on.
        effect: What setting it does.
        value: What a value looks like.
        default: The default as it is written in TOML; empty where there is none.
        meaning: What it means; for a refused key, why it is refused.
        note: The feature that it takes effect with, or what to do instead.
    """

    path: KeyPath
    effect: Effect
    value: str
    default: str
    meaning: str
    note: str = ""

    @property
    def dotted(self) -> str:
        """The key as it is spoken of: ``agent.id``."""
        return ".".join(self.path)

    @property
    def example(self) -> str:
        """The default, or where none can be written down a value that shows how one looks."""
        return EXAMPLES.get(self.dotted, self.default) or '"..."'


def entries() -> Iterator[Entry]:
    """Yield every key: those in effect, those of later features, and those that are refused."""
    for path, section, name, field in fields(AgentConfig):
        effect = Effect.HANDED if path in HANDED else Effect.NOW
        meaning = MEANINGS[".".join(path)]
        yield Entry(path, effect, value_words(field), default_of(section, name, field), meaning)
    for path, section, name, field in fields(PendingConfig):
        meaning, feature = LATER[".".join(path)], feature_of(path)
        default = default_of(section, name, field)
        yield Entry(path, Effect.LATER, value_words(field), default, meaning, feature)
    for path, refusal in REFUSED.items():
        accepted = " or ".join(toml(value) for value in refusal.harmless)
        yield Entry(path, Effect.REFUSED, accepted, "", refusal.why, refusal.instead)


def fields(
    section: type[Section], path: KeyPath = ()
) -> Iterator[tuple[KeyPath, type[Section], str, FieldInfo]]:
    """Yield every key of a section and of the tables below it, with its field."""
    for name, field in section.model_fields.items():
        here, inner = (*path, kebab(name)), section_in(field.annotation)
        if inner is None:
            yield here, section, name, field
        else:
            yield from fields(inner, here)


def value_words(field: FieldInfo) -> str:
    """Say what a value of a field looks like."""
    if field.description:
        return field.description
    # A union keeps the description of its members inside of its annotation.
    for part in get_args(field.annotation):
        for item in getattr(part, "__metadata__", ()):
            if getattr(item, "description", None):
                return str(item.description)
    return _KINDS.get(field.annotation, "text")


_KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}

_COMPUTED = {
    ("AgentSection", "id"): '"i-<hostname>"',
    ("ContainerSection", "scratch_root"): '"/tmp/backend.ai/scratches"',
}


def default_of(section: type[Section], name: str, field: FieldInfo) -> str:
    """Write a field's default as TOML; empty where it has none."""
    computed = _COMPUTED.get((section.__name__, name))
    return computed or toml(field.get_default(call_default_factory=True))


def toml(value: Any) -> str:
    """Write a value as TOML."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path | Address):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    return _number(value)


def _number(value: float) -> str:
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        mebibytes = value >> 20
        return f'"{mebibytes >> 10}G"' if mebibytes % 1024 == 0 else f'"{mebibytes}M"'
    return f"{value:g}" if value < 1 << 20 else str(value)
