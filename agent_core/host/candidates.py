"""The plugins that are installed, found by reading metadata; nothing is imported.

Every directory of the search path is read once, so that an empty leftover of another version never
hides the real distribution: each directory of metadata is looked at for itself.
"""

# pathlib costs as much to import as reading three hundred distributions does.
# ruff: noqa: PTH120, PTH208

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from agent_core.host.metadata import (
    PREFIX,
    EntryPoint,
    Metadata,
    read_archive,
    read_dist_info,
    read_egg_info,
    read_foreign_finders,
)
from agent_core.host.requirement import canonical

_GROUP = re.compile(r"agent_core\.([a-z][a-z0-9_-]*)\.v(\d{1,6})")


class Candidate(NamedTuple):
    """An entry point that was found, before any import.

    Attributes:
        kind: backend, device, scratch, runner, or what its author wrote.
        name: The entry point's name, which is the plugin's name.
        contract: The version of the kind's contract.
        value: The object that the entry point names.
        dist: The distribution's name.
        version: The distribution's version.
        location: Where its metadata lies.
        requires_core: Its range on agent-core, such as ``>=0.1,<0.2``; empty for none.
        summary: The distribution's own one line.
    """

    kind: str
    name: str
    contract: int
    value: str
    dist: str
    version: str
    location: str = ""
    requires_core: str = ""
    summary: str = ""

    @property
    def module(self) -> str:
        """The module that loading imports."""
        return self.value.partition(":")[0].split("[")[0].strip()

    @property
    def attribute(self) -> str:
        """The attribute within the module that the entry point names; empty for the module."""
        return self.value.partition(":")[2].split("[")[0].strip()

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"{PREFIX}{self.kind}.v{self.contract}"

    @property
    def origin(self) -> str:
        """Name the distribution for people: ``accel-acme 1.4``."""
        return f"{self.dist} {self.version}".strip()


class ScanProblem(NamedTuple):
    """Something on the search path that could not be read or is not what it should be."""

    location: str
    reason: str
    hint: str = ""


class Survey(NamedTuple):
    """What a scan found: the candidates, sorted and distinct, and what could not be read."""

    candidates: tuple[Candidate, ...]
    problems: tuple[ScanProblem, ...] = ()


def scan(path: Sequence[str] | None = None) -> tuple[Candidate, ...]:
    """List the installed plugins, sorted; `path` replaces the interpreter's search path."""
    return survey(path).candidates


def survey(path: Sequence[str] | None = None) -> Survey:
    """Scan as `scan` does, and tell also what could not be read."""
    problems: list[ScanProblem] = []
    found = list(_search(path, problems))
    winners = _current(found, problems)
    candidates = [c for metadata in winners for c in _candidates(metadata, problems)]
    return Survey(distinct(candidates), tuple(problems))


def distinct(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Sort, and count the same declaration of the same distribution once."""
    first: dict[tuple[str, str, int, str, str], Candidate] = {}
    for candidate in sorted(candidates):
        key = (
            candidate.kind,
            candidate.name,
            candidate.contract,
            candidate.value,
            canonical(candidate.dist),
        )
        first.setdefault(key, candidate)
    return tuple(first.values())


def _search(path: Sequence[str] | None, problems: list[ScanProblem]) -> Iterator[Metadata]:
    seen: set[str] = set()
    for entry in sys.path if path is None else path:
        place = os.path.realpath(entry or ".")
        if place not in seen:
            seen.add(place)
            yield from _search_place(place, problems)
    if path is None:
        yield from _guarded("import finders", read_foreign_finders, problems)


def _search_place(place: str, problems: list[ScanProblem]) -> Iterator[Metadata]:
    if place.endswith(".egg"):
        yield from _guarded(place, lambda: read_archive(place), problems)
        return
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        yield from _guarded(place, lambda: read_archive(place), problems)
        return
    except OSError as exc:
        problems.append(_unreadable(place, exc))
        return
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            yield from _search_directory(f"{place}{os.sep}{name}", problems)


def _search_directory(directory: str, problems: list[ScanProblem]) -> Iterator[Metadata]:
    read = read_dist_info if directory.endswith(".dist-info") else read_egg_info
    try:
        metadata = read(directory)
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with one distribution's files must not hide the others
        problems.append(_unreadable(directory, exc))
        return
    if metadata is not None:
        yield metadata


def _guarded(
    place: str, read: Callable[[], Iterable[Metadata]], problems: list[ScanProblem]
) -> Iterable[Metadata]:
    try:
        return list(read())
    except Exception as exc:  # noqa: BLE001 - as above
        problems.append(_unreadable(place, exc))
        return ()


def _unreadable(location: str, exc: BaseException) -> ScanProblem:
    return ScanProblem(
        location,
        f"its metadata cannot be read: {type(exc).__name__}: {exc}",
        "Check the permissions, or reinstall the distribution.",
    )


def _current(found: Sequence[Metadata], problems: list[ScanProblem]) -> Iterator[Metadata]:
    by_name: dict[str, list[Metadata]] = {}
    places: dict[str, int] = {}
    for metadata in found:
        by_name.setdefault(canonical(metadata.dist), []).append(metadata)
        places.setdefault(os.path.dirname(metadata.location), len(places))

    def rank(metadata: Metadata) -> tuple[bool, int, list[int]]:
        newest_first = [-int(number) for number in re.findall(r"\d+", metadata.version)]
        place = places[os.path.dirname(metadata.location)]
        return (not metadata.complete, place, newest_first)

    for same_name in by_name.values():
        winner, *rest = sorted(same_name, key=rank)
        problems.extend(_leftover(metadata, winner) for metadata in rest)
        if not winner.complete:
            problems.append(_incomplete(winner))
        yield winner


def _leftover(metadata: Metadata, winner: Metadata) -> ScanProblem:
    return ScanProblem(
        metadata.location,
        f"metadata of {metadata.dist} {metadata.version} is shadowed:"
        f" {winner.version} in {winner.location} is used",
        f"Remove what is left, or reinstall: pip install --force-reinstall {winner.dist}",
    )


def _incomplete(metadata: Metadata) -> ScanProblem:
    return ScanProblem(
        metadata.location,
        f"{metadata.dist} {metadata.version} has entry points and no METADATA,"
        " as an interrupted uninstall leaves it",
        f"Reinstall or remove it: pip install --force-reinstall {metadata.dist}",
    )


def _candidates(metadata: Metadata, problems: list[ScanProblem]) -> Iterator[Candidate]:
    for point in metadata.entry_points:
        match = _GROUP.fullmatch(point.group)
        if match is None or not point.name:
            problems.append(_misnamed(metadata, point))
            continue
        yield Candidate(
            kind=match.group(1),
            name=point.name,
            contract=int(match.group(2)),
            value=point.value,
            dist=metadata.dist,
            version=metadata.version,
            location=metadata.location,
            requires_core=metadata.requires_core,
            summary=metadata.summary,
        )


def _misnamed(metadata: Metadata, point: EntryPoint) -> ScanProblem:
    return ScanProblem(
        metadata.location,
        f"{metadata.dist} {metadata.version} declares {point.name!r} in the entry-point group"
        f" {point.group!r}, which names no kind and contract version",
        "Groups are named like agent_core.device.v1; its author has to mend this.",
    )
