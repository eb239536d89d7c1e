"""A complete agent.toml: every key that can be set, with its meaning and default, in comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from agent_core.config.catalogue import Effect, Entry, entries
from agent_core.config.vocabulary import KeyPath

_HEAD: Final = """\
# The configuration of an agent, complete: each key with its meaning and, in a comment, its default.
# Uncomment what should be otherwise. What is wrong is told by `agentctl config check -f FILE`, and
# what is in effect by `agentctl config show -f FILE`.
# Sizes have binary suffixes: "1G" is 2^30 bytes. Times are seconds, or have a unit: "500ms", "2m".
"""
_WIDTH: Final = 96


def sample() -> str:
    """Write the file; it loads as it stands and changes nothing."""
    shown = [entry for entry in entries() if entry.effect in (Effect.NOW, Effect.LATER)]
    return "".join([_HEAD, *_tables(shown), *_handed()])


def _tables(shown: list[Entry]) -> Iterator[str]:
    in_order = list(dict.fromkeys(entry.path[:-1] for entry in shown))
    first = [table[0] for table in in_order]
    shown.sort(key=lambda e: (first.index(e.path[0]), in_order.index(e.path[:-1])))
    for table, group in groupby(shown, key=lambda entry: entry.path[:-1]):
        keys = list(group)
        # A table that stands there without a key of its own would be announced as pending.
        now = any(entry.effect is Effect.NOW for entry in keys)
        yield f"\n{'' if now else '#'}[{'.'.join(table)}]\n"
        yield from map(_entry, keys)


def _entry(entry: Entry) -> str:
    later = f" (takes effect with {entry.note})" if entry.effect is Effect.LATER else ""
    words = f"{entry.meaning[:1].upper()}{entry.meaning[1:]}{later}."
    lines = textwrap.wrap(words.replace("`", ""), _WIDTH)
    lines += textwrap.wrap(f"Value: {entry.value}.", _WIDTH)
    if entry.example != entry.default:
        lines.append(f"Default: {entry.default or 'not set'}; for example:")
    return "".join(f"# {line}\n" for line in lines) + f"#{entry.path[-1]} = {entry.example}\n\n"


def _handed() -> Iterator[str]:
    yield "\n# ---- tables that only plugins read; `agentctl plugins show NAME` says which\n"
    for entry in entries():
        if entry.effect is Effect.HANDED:
            name = _name(entry.path)
            yield f"\n# {entry.meaning[:1].upper()}{entry.meaning[1:]}.\n#[{name}]\n"


def _name(path: KeyPath) -> str:
    return ".".join(path) + (".NAME" if path == ("plugin",) else "")
