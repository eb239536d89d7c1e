"""The operator's allow and block lists: what an item matches, and which list governs whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent_core.config.selection import Selection
from agent_core.host.candidates import Candidate
from agent_core.host.requirement import CORE, canonical

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


def terms(candidates: Iterable[Candidate]) -> Iterator[str]:
    """Yield every item that would match one of the candidates, for suggestions."""
    for candidate in candidates:
        yield from (candidate.name, canonical(candidate.dist), candidate.module)
