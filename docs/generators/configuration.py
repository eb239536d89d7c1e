"""The reference of configuration keys: types and defaults from the model, meanings from here."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from agent_core.config import catalogue, sources, vocabulary
from agent_core.config.checking import section_in
from agent_core.config.meanings import MEANINGS
from agent_core.config.model import AgentConfig, Section, kebab
from agent_core.config.reloading import LIVE
from generators.markdown import code, first_sentence, table

_HEAD = """# Configuration

One TOML file, the environment and the command line, each over the one before. Every key below may
be left out. All faults are reported at once, each with its file and line and what to write
instead: `agentctl config check`. `agentctl config show` prints what is in effect.

## Where it comes from

"""
_ENVIRONMENT = """
Every key can be set by a variable: `AGENT_`, the path to the key with `__` between the parts, and
`_` for each hyphen. `AGENT_AGENT__ID=i-one` sets `id` of `[agent]`. A list is JSON or has commas
between its items. These variables have names of their own:

"""
_ALIASES = """
## Other spellings

These keys are accepted and mean the same as the key on the right. Those that are deprecated are
warned about at the start.

"""
_EVERY = """
## Every key { #every-key }

All keys in one table, those too that the system whose place this agent takes knows. A key is *in
effect*; or it comes *later*, with a feature that is not there yet: then its value is checked, and
every start and `agentctl config check` announce it; or it is *refused*, with a reason and what to
do instead. Any other key is a fault, with the nearest known key as a suggestion. What is *live* is
taken over by `agentctl config reload` and at SIGHUP; the rest needs a restart.

"""
_HANDED = """
## Tables of plugins outside of [plugin] { #handed }

These tables are handed as they are to the plugins that are selected and declare them, and judged by
their schemas. Where no plugin that is loaded reads one, that is announced at the start. A file
`agent.<backend>.toml` beside `agent.toml` is laid over it.

"""
_PLUGIN = """
## [plugin.NAME] { #plugin-name }

A table of the plugin of that name, checked by the schema which the plugin itself declares;
`agentctl plugins show NAME` prints it. Keys of the plugins of this repository are in the README
of each distribution.
"""

_TABLES = (
    *("agent.intrinsic", "agent.resource", "agent.delay", "agent.image"),
    *("kernel", "kernel-creation-ctx"),
)


def page() -> str:
    """Write every key of the model, the aliases and the pending keys."""
    order = [*sources.search_order({"HOME": "~"})]
    variables = [f"${name}" for name in sources.FILE_VARIABLES]
    places = "".join(f"{i}. `{place}`\n" for i, place in enumerate([*variables, *order], 1))
    first = "The file named by `-f`; without it the first of these that exists:\n\n"
    parts = [_HEAD, first, places, _ENVIRONMENT, _short_variables()]
    parts += list(_sections(AgentConfig, ()))
    parts += [_PLUGIN, _HANDED, _handed(), _ALIASES, _aliases(), _EVERY, _every_key()]
    return "".join(parts)


def _handed() -> str:
    rows = [[code(f"[{key}]"), MEANINGS[key]] for key in _TABLES]
    return table(["table", "meaning"], rows)


def _short_variables() -> str:
    pairs = vocabulary.SHORT_VARIABLES.items()
    return table(["variable", "key"], [[code(name), code(_dotted(path))] for name, path in pairs])


def keys() -> Iterator[str]:
    """Yield every key of the model, dotted."""
    return (entry.dotted for entry in catalogue.entries() if entry.effect in _OURS)


_OURS = (catalogue.Effect.NOW, catalogue.Effect.HANDED)


def _sections(section: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    plain = {n: f for n, f in section.model_fields.items() if section_in(f.annotation) is None}
    if path:
        rows = [_row(section, name, field, path) for name, field in plain.items()]
        title = _dotted(path)
        anchor, meaning = title.replace(".", "-"), first_sentence(section.__doc__)
        yield f"\n## [{title}] {{ #{anchor} }}\n\n{meaning}\n\n"
        yield table(["key", "value", "default", "meaning"], rows)
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            yield from _sections(inner, (*path, kebab(name)))


def _row(section: type[Section], name: str, field: FieldInfo, path: tuple[str, ...]) -> list[str]:
    dotted = _dotted((*path, kebab(name)))
    return [
        code(kebab(name)),
        catalogue.value_words(field),
        _default(section, name, field, path),
        MEANINGS[dotted],
    ]


def _default(section: type[Section], name: str, field: FieldInfo, path: tuple[str, ...]) -> str:
    if (*path, name) == ("agent", "id"):
        return "`i-<hostname>`"
    if (*path, name) == ("container", "scratch_root"):
        return "`/tmp/backend.ai/scratches`; not as root `/tmp/backend.ai-<uid>/scratches`"
    return code(catalogue.default_of(section, name, field))


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _aliases() -> str:
    rows = [
        [code(_dotted(path)), code(_dotted((*path[:-1], a.key))), "yes" if a.deprecated else ""]
        for path, a in vocabulary.ALIASES.items()
    ]
    return table(["key", "means", "deprecated"], rows)


def _every_key() -> str:
    rows = [
        [code(entry.dotted), _effect(entry), _example(entry), _looks(entry), _meaning(entry)]
        for entry in sorted(catalogue.entries(), key=lambda entry: entry.path)
    ]
    return table(["key", "effect", "default or example", "value", "meaning"], rows)


def _is_refused(entry: catalogue.Entry) -> bool:
    return entry.effect is catalogue.Effect.REFUSED


def _example(entry: catalogue.Entry) -> str:
    return "" if _is_refused(entry) else code(entry.example)


def _looks(entry: catalogue.Entry) -> str:
    return code(entry.value) if _is_refused(entry) else entry.value


def _effect(entry: catalogue.Entry) -> str:
    if entry.effect is catalogue.Effect.LATER:
        return f"later, with {entry.note}"
    if _is_refused(entry) and entry.value:
        return "refused with any other value"
    live = " (live)" if entry.path in LIVE else ""
    return f"{entry.effect.value}{live}"


def _meaning(entry: catalogue.Entry) -> str:
    return f"{entry.meaning}: {entry.note}" if _is_refused(entry) else entry.meaning
