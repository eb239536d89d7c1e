"""Real distributions made of nothing but files, so that tests of discovery need no installer.

def test_my_plugin_is_found(tmp_path):
    fake_distribution(
        tmp_path,
        "accel-acme",
        "1.4",
        {"agent_core.device.v1": {"acme": "accel_acme.plugin"}},
        {"accel_acme/plugin.py": SOURCE},
        requires=["agent-core>=0.1,<0.2"],
    )
    with on_path(tmp_path):
        ...
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def fake_distribution(
    site: Path,
    name: str,
    version: str,
    entry_points: Mapping[str, Mapping[str, str]] | None = None,
    files: Mapping[str, str] | None = None,
    *,
    requires: Sequence[str] = (),
    summary: str = "",
) -> Path:
    """Install a distribution into a directory by writing what an installer would write.

    Args:
        site: The directory to put on the search path; made when it is not there.
        name: The distribution's name.
        version: Its version.
        entry_points: For each group, the objects by name.
        files: For each path relative to `site`, the source text; packages need no ``__init__``.
        requires: Its requirements, such as ``agent-core>=0.1,<0.2``.
        summary: Its own one line.

    Returns:
        The ``dist-info`` directory.
    """
    installed = dict(files or {})
    dist_info = f"{name.replace('-', '_')}-{version}.dist-info"
    installed[f"{dist_info}/METADATA"] = _core_metadata(name, version, summary, requires)
    installed[f"{dist_info}/INSTALLER"] = "fake\n"
    if entry_points:
        installed[f"{dist_info}/entry_points.txt"] = _entry_point_file(entry_points)
    record = f"{dist_info}/RECORD"
    installed[record] = "".join(f"{path},,\n" for path in (*installed, record))
    for path, text in installed.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return site / dist_info


@contextmanager
def on_path(*sites: Path) -> Iterator[None]:
    """Put directories on the search path, and forget afterwards what was imported from them."""
    before = list(sys.path)
    places = tuple(str(site) for site in sites)
    sys.path[:0] = places
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        for module, loaded in list(sys.modules.items()):
            if _comes_from(loaded, places):
                del sys.modules[module]


def _comes_from(module: object, places: tuple[str, ...]) -> bool:
    paths = [getattr(module, "__file__", None) or "", *_package_path(module)]
    return any(path.startswith(places) for path in paths)


def _package_path(module: object) -> list[str]:
    return [str(path) for path in getattr(module, "__path__", ())]


def _core_metadata(name: str, version: str, summary: str, requires: Sequence[str]) -> str:
    fields = [("Metadata-Version", "2.1"), ("Name", name), ("Version", version)]
    fields += [("Summary", summary)] if summary else []
    fields += [("Requires-Dist", requirement) for requirement in requires]
    return "".join(f"{key}: {value}\n" for key, value in fields)


def _entry_point_file(entry_points: Mapping[str, Mapping[str, str]]) -> str:
    sections = []
    for group, points in entry_points.items():
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        sections.append(f"[{group}]\n{lines}")
    return "\n".join(sections)
