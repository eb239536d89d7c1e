"""What is wrong with the operator's choice itself: items that match nothing, plugins not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from agent_core.config.selection import Selection
from agent_core.host.candidates import Candidate
from agent_core.host.lists import (
    PluginList,
    allow_lists,
    block_lists,
    inline_list,
    is_intrinsic,
    matches,
    terms,
)

SELECTED_BY: Final = {
    "backend": "[agent] backend",
    "scratch": "[container] scratch-type",
    "runner": "[container] runner",
}
"""For each kind of which one is selected, the key that selects it."""

_DISTRIBUTIONS: Final = {
    ("runner", "default"): "agent-kernel-runner",
    "backend": "agent-backend-{}",
    "scratch": "scratch-{}",
    "runner": "agent-runner-{}",
}


class Notice(NamedTuple):
    """One remark about the configuration of plugins.

    Attributes:
        severity: An error keeps the agent from being of use, a warning does not.
        key: The key of the configuration, such as ``[plugins] allow``.
        item: What is written there.
        message: What is the matter.
        hint: What to do about it.
    """

    severity: Literal["warning", "error"]
    key: str
    item: str
    message: str
    hint: str = ""


def selected_names(selection: Selection) -> dict[str, str]:
    """Name the one plugin selected of each kind of which only one is loaded.

    Args:
        selection: The operator's choice, resolved.
    """
    named = {
        "backend": selection.backend,
        "scratch": selection.scratch,
        "runner": selection.runner,
    }
    return {kind: name for kind, name in named.items() if name is not None}


def install_hint(kind: str, name: str) -> str:
    """Say how to install a plugin, by the naming convention of distributions."""
    pattern = _DISTRIBUTIONS.get((kind, name)) or _DISTRIBUTIONS[kind]
    return f"Install it beside agent-core: pip install {pattern.format(name)}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for a near miss, else nothing."""
    import difflib

    close = difflib.get_close_matches(word, sorted(set(known)), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def list_notices(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Notice]:
    """Warn of items that match nothing, and of attempts to block what cannot be blocked."""
    lists = (*allow_lists(selection), *block_lists(selection), inline_list(selection))
    for plugin_list in lists:
        for item in plugin_list.items or ():
            if not any(matches(item, c) for c in candidates if plugin_list.governs(c)):
                yield _unmatched(plugin_list, item, candidates)
    for plugin_list in block_lists(selection):
        for item in plugin_list.items or ():
            if _means_only_intrinsic(item, candidates):
                yield _cannot_block(plugin_list, item)


def missing(kind: str, name: str, candidates: Sequence[Candidate]) -> Notice:
    """Say that the selected plugin of a kind is not installed, and how to get it."""
    of_kind = sorted({c.name for c in candidates if c.kind == kind})
    key = SELECTED_BY[kind]
    installed = f"installed: {', '.join(of_kind)}" if of_kind else f"no {kind} is installed"
    hint = f"{suggestion(name, of_kind)} {install_hint(kind, name)}".strip()
    message = f"{kind} {name!r} is selected by {key} and is not installed ({installed})"
    return Notice("error", key, name, message, hint)


def _unmatched(plugin_list: PluginList, item: str, candidates: Sequence[Candidate]) -> Notice:
    message = f"{item!r} in {plugin_list.key} matches no installed plugin"
    other = next((c for c in candidates if matches(item, c)), None)
    if other is not None:
        message = f"{item!r} in {plugin_list.key} is a {other.kind}, and that list governs devices"
        hint = "Name it in [plugins] allow or block instead."
    else:
        governed = [c for c in candidates if plugin_list.governs(c)]
        hint = suggestion(item, terms(governed))
        hint = hint or "Install the plugin, or take the item out of the list."
    return Notice("warning", plugin_list.key, item, message, hint)


def _means_only_intrinsic(item: str, candidates: Sequence[Candidate]) -> bool:
    meant = [c for c in candidates if matches(item, c)]
    return bool(meant) and all(is_intrinsic(c) for c in meant)


def _cannot_block(plugin_list: PluginList, item: str) -> Notice:
    return Notice(
        "warning",
        plugin_list.key,
        item,
        f"{item!r} in {plugin_list.key} has no effect: agent-core's own cpu and mem always load",
        "Take it out of the list; reserve CPU or memory to keep them from kernels.",
    )
