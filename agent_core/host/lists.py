"""The operator's allow and block lists: what an item matches, and which list governs whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from agent_core.config.selection import Selection
from agent_core.host.candidates import Candidate
from agent_core.host.requirement import CORE, canonical

ISOLATED: Final = frozenset({"device"})
"""The kinds whose plugins run in a worker process each, unless something says otherwise."""

INLINE: Final = frozenset({CORE, "accel-mock"})
"""The distributions that run inline by themselves: they are ours, and wrap no vendor's library."""

_INTRINSIC = frozenset({"cpu", "mem"})


class PluginList(NamedTuple):
    """One list of the configuration.

    Attributes:
        key: How the operator wrote it, such as ``[plugins] allow``.
        items: Its items; None when the key is absent.
        kind: The kind that it governs; None for all kinds.
    """

    key: str
    items: tuple[str, ...] | None
    kind: str | None = None

    def governs(self, candidate: Candidate) -> bool:
        """Whether the list is there and is about this candidate's kind."""
        return self.items is not None and self.kind in (None, candidate.kind)

    def match(self, candidate: Candidate) -> str | None:
        """Return the first item that matches the candidate, if one does."""
        return next((item for item in self.items or () if matches(item, candidate)), None)


def allow_lists(selection: Selection) -> tuple[PluginList, ...]:
    """List the allow lists; a candidate needs the consent of each that governs it."""
    return (
        PluginList("[agent] allow-compute-plugins", selection.allow_devices, "device"),
        PluginList("[plugins] allow", selection.allow),
    )


def block_lists(selection: Selection) -> tuple[PluginList, ...]:
    """List the block lists; each wins over every allow list."""
    return (
        PluginList("[agent] block-compute-plugins", selection.block_devices, "device"),
        PluginList("[plugins] block", selection.block),
    )


def inline_list(selection: Selection) -> PluginList:
    """Return the list of plugins that run in the agent's own process."""
    return PluginList("[plugins] inline", selection.inline, "device")


def matches(item: str, candidate: Candidate) -> bool:
    """Whether a list's item means this candidate.

    It does when it is the entry point's name, the distribution's name in any spelling, or the
    dotted path of the module or of a package around it: ``a.b`` matches ``a.b.c``, not ``a.bc``.
    """
    return (
        item == candidate.name
        or canonical(item) == canonical(candidate.dist)
        or f"{candidate.module}.".startswith(f"{item}.")
    )


def is_intrinsic(candidate: Candidate) -> bool:
    """Whether it is agent-core's own ``cpu`` or ``mem``, which no list can take away."""
    return (
        candidate.kind == "device"
        and candidate.name in _INTRINSIC
        and canonical(candidate.dist) == CORE
    )


def is_isolated(candidate: Candidate, selection: Selection) -> bool:
    """Whether it runs in a worker process of its own and is never imported by the agent."""
    return (
        candidate.kind in ISOLATED
        and canonical(candidate.dist) not in INLINE
        and inline_list(selection).match(candidate) is None
    )


def resolved(selection: Selection, candidates: Iterable[Candidate]) -> Selection:
    """Fill in what the operator left open: what comes with the backend, else the usual plugin."""
    found = list(candidates)
    return replace(
        selection,
        scratch=selection.scratch or _companion(selection, "scratch", found) or "hostdir",
        runner=selection.runner or _companion(selection, "runner", found) or "default",
    )


def _companion(selection: Selection, kind: str, candidates: Sequence[Candidate]) -> str | None:
    """Find the plugin of a kind that the selected backend's own distribution brings."""
    homes = {
        canonical(c.dist) for c in candidates if (c.kind, c.name) == ("backend", selection.backend)
    }
    names = [c.name for c in candidates if c.kind == kind and canonical(c.dist) in homes]
    return min(names, default=None)


def terms(candidates: Iterable[Candidate]) -> Iterator[str]:
    """Yield every item that would match one of the candidates, for suggestions."""
    for candidate in candidates:
        yield from (candidate.name, canonical(candidate.dist), candidate.module)
