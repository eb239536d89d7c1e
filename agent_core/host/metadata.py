"""What one installed distribution says of itself, read from its files without importing anything.

The usual layout, a ``dist-info`` directory, is read here: two small text files, of which the second
only where the first names plugins of ours. importlib_metadata reads every other layout (eggs,
archives, finders of others); it is imported only when there is one, since importing it costs more
than reading three hundred distributions does.
"""

# pathlib costs as much to import as reading three hundred distributions does.
# ruff: noqa: PTH118, PTH119, PTH123

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from agent_core.host.requirement import core_range

if TYPE_CHECKING:
    import importlib_metadata

PREFIX = "agent_core."
"""What the names of our entry-point groups begin with."""


class EntryPoint(NamedTuple):
    """One line of an entry-point file: its group, its name and the object it points to."""

    group: str
    name: str
    value: str


class Metadata(NamedTuple):
    """The part of a distribution's metadata that the plugin host needs.

    Attributes:
        dist: The distribution's name, as it writes it.
        version: Its version.
        location: Where the metadata lies.
        complete: False when the core metadata file is missing, as an interrupted uninstall leaves.
        requires_core: Its range on agent-core; empty for none.
        summary: Its own one line.
        entry_points: Those in our groups.
    """

    dist: str
    version: str
    location: str
    complete: bool
    requires_core: str
    summary: str
    entry_points: tuple[EntryPoint, ...]


def read_dist_info(directory: str) -> Metadata | None:
    """Read a ``dist-info`` directory; None when it declares no plugin of ours.

    Raises:
        OSError: when a file is there and cannot be read.
        UnicodeDecodeError: when the entry points are not UTF-8.
    """
    declared = _content(os.path.join(directory, "entry_points.txt"))
    if declared is None or PREFIX.encode() not in declared:
        return None
    entry_points = tuple(_parse_entry_points(declared.decode()))
    if not entry_points:
        return None
    core_metadata = _content(os.path.join(directory, "METADATA"))
    fields = list(_fields(core_metadata or b""))
    single = dict(fields)
    name, _, version = os.path.basename(directory).removesuffix(".dist-info").partition("-")
    return Metadata(
        dist=single.get("name") or name,
        version=single.get("version") or version,
        location=directory,
        complete=core_metadata is not None,
        requires_core=core_range(value for key, value in fields if key == "requires-dist"),
        summary=single.get("summary", ""),
        entry_points=entry_points,
    )


def read_egg_info(directory: str) -> Metadata | None:
    """Read an ``egg-info`` directory, as development installs have; None without plugins."""
    declared = _content(os.path.join(directory, "entry_points.txt"))
    if declared is None or PREFIX.encode() not in declared:
        return None
    from pathlib import Path

    import importlib_metadata

    return from_distribution(importlib_metadata.Distribution.at(Path(directory)), directory)


def read_archive(path: str) -> Iterator[Metadata]:
    """Read every distribution with plugins in an egg or archive on the search path."""
    import importlib_metadata

    for distribution in importlib_metadata.distributions(path=[path]):
        metadata = from_distribution(distribution, path)
        if metadata is not None:
            yield metadata


def read_foreign_finders() -> Iterator[Metadata]:
    """Read what import finders of others know beyond the search path."""
    finders = [finder for finder in sys.meta_path if _is_foreign(finder)]
    if not finders:
        return
    import importlib_metadata

    context = importlib_metadata.DistributionFinder.Context()  # type: ignore[no-untyped-call] # theirs is untyped
    for finder in finders:
        for distribution in finder.find_distributions(context):  # type: ignore[attr-defined] # the protocol is optional; _is_foreign looked
            metadata = from_distribution(distribution, str(finder))
            if metadata is not None:
                yield metadata


def from_distribution(
    distribution: importlib_metadata.IDistribution, location: str
) -> Metadata | None:
    """Take what we need from a distribution that importlib_metadata found."""
    entry_points = tuple(
        EntryPoint(point.group, point.name, point.value)
        for point in distribution.entry_points
        if point.group.startswith(PREFIX)
    )
    if not entry_points:
        return None
    fields = distribution.metadata
    return Metadata(
        dist=fields.get("Name", ""),
        version=fields.get("Version", ""),
        location=location,
        complete=True,
        requires_core=core_range(distribution.requires or ()),
        summary=fields.get("Summary", ""),
        entry_points=entry_points,
    )


def _is_foreign(finder: object) -> bool:
    module = getattr(finder, "__module__", "")
    known = ("_frozen_importlib", "importlib.", "importlib_metadata")
    return hasattr(finder, "find_distributions") and not module.startswith(known)


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _parse_entry_points(text: str) -> Iterator[EntryPoint]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group.startswith(PREFIX) and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield EntryPoint(group, name.strip(), value.strip())


def _fields(core_metadata: bytes) -> Iterable[tuple[str, str]]:
    for line in core_metadata.decode(errors="replace").splitlines():
        if not line.strip():
            return  # the description follows, which can be long
        key, separator, value = line.partition(":")
        if separator and not line[0].isspace():
            yield key.lower(), value.strip()
