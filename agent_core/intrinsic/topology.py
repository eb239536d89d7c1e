"""The NUMA nodes of the host, read from sysfs."""

from __future__ import annotations

from pathlib import Path


def parse_list(text: str) -> list[int]:
    """Read the kernel's list format: ``"0-2,8"`` is 0, 1, 2 and 8.

    Raises:
        ValueError: when the text is not such a list.
    """
    numbers: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def node_of_cores(root: Path) -> dict[int, int]:
    """Map each core to its NUMA node; a core that the host does not place is left out."""
    placed: dict[int, int] = {}
    for directory in sorted((root / "sys/devices/system/node").glob("node[0-9]*")):
        try:
            node = int(directory.name.removeprefix("node"))
            cores = parse_list((directory / "cpulist").read_text())
        except (OSError, ValueError):
            continue
        placed.update(dict.fromkeys(cores, node))
    return placed
