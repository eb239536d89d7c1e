"""Which agent-core a distribution asks for, and whether this one is it.

The comparison knows what ranges on agent-core are made of: releases of plain numbers and the
operators of the packaging standard. A clause that it cannot read is never held against a plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest

CORE = "agent-core"

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_CLAUSE = re.compile(r"\s*(===|==|~=|!=|<=|>=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?\s*")
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)")
_SEPARATORS = re.compile(r"[-_.]+")

Release = tuple[int, ...]


def canonical(name: str) -> str:
    """Normalise a distribution's name, so that ``Accel_Acme`` and ``accel-acme`` are equal."""
    return _SEPARATORS.sub("-", name).lower()


def core_range(requires: Iterable[str]) -> str:
    """Extract the range on agent-core from requirements, such as ``>=0.1,<0.2``; else empty.

    Requirements of optional extras do not count.
    """
    clauses = []
    for requirement in requires:
        match = _REQUIREMENT.match(requirement)
        if match is None or canonical(match.group(1)) != CORE:
            continue
        if "extra" not in (match.group(3) or ""):
            clauses.append(match.group(2).replace(" ", "").strip(","))
    return ",".join(clause for clause in clauses if clause)


def admits(specifier: str, version: str) -> bool:
    """Whether a version lies in a range; an empty range admits all."""
    found = _RELEASE.match(version)
    if found is None:
        return True
    release = _release(found.group(1))
    return all(_clause_admits(clause, release) for clause in specifier.split(",") if clause)


def _clause_admits(clause: str, version: Release) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        return True
    operator, bound = match.group(1), _release(match.group(2))
    if match.group(3):
        same = _padded(version, len(bound))[: len(bound)] == bound
        return same if operator == "==" else not same
    order = _compare(version, bound)
    match operator:
        case "==" | "===":
            return order == 0
        case "!=":
            return order != 0
        case "<=":
            return order <= 0
        case ">=":
            return order >= 0
        case "<":
            return order < 0
        case ">":
            return order > 0
        case _:
            series = bound[:-1]
            return order >= 0 and _padded(version, len(series))[: len(series)] == series


def _release(text: str) -> Release:
    return tuple(int(part) for part in text.split("."))


def _padded(version: Release, length: int) -> Release:
    return version + (0,) * (length - len(version))


def _compare(left: Release, right: Release) -> int:
    for ours, theirs in zip_longest(left, right, fillvalue=0):
        if ours != theirs:
            return -1 if ours < theirs else 1
    return 0
