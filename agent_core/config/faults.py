"""What is wrong with a configuration, and what is merely worth saying: all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agent_core.contracts.errors import InvalidConfig, bullet_list

_HINT = "Mend all that is listed; `agentctl config check` looks again and starts nothing."


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
        source: A file's path, ``environment`` or ``command line``.
        line: The line in the file, or None where there are no lines.
        key: The dotted key, such as ``agent.backend``; empty for the file as a whole.
        what: What is wrong, in words.
        hint: How to mend it; may be empty.
    """

    source: str
    line: int | None
    key: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        subject = f"{self.key}: " if self.key else ""
        remedy = f" ({self.hint})" if self.hint else ""
        return f"{where}: {subject}{self.what}{remedy}"


def invalid(faults: Iterable[Fault], *, hint: str | None = None) -> InvalidConfig:
    """Build the error that carries all faults, in the order of the file."""
    ordered = sorted(faults, key=lambda fault: (fault.source, fault.line or 0, fault.key))
    details = {"faults": [fault._asdict() for fault in ordered]}
    return InvalidConfig(
        bullet_list([str(f) for f in ordered]), hint=hint or _HINT, details=details
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or return an empty string."""
    # difflib costs a few milliseconds that a configuration without faults need not pay.
    from difflib import get_close_matches

    near: Sequence[str] = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""
