"""What the host's own files tell of the cards, under a root that tests can set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The ``sys`` and ``proc`` of a host; what is not there is unknown and no error."""

    root: Path = Path("/")

    def numa_node(self, address: str) -> int | None:
        """Read the NUMA node of a PCI device; the kernel writes -1 when it does not know."""
        text = _text(self.root / "sys/bus/pci/devices" / address / "numa_node")
        node = int(text) if re.fullmatch(r"-?\d+\s*", text) else -1
        return node if node >= 0 else None

    def bound(self) -> frozenset[str]:
        """List the PCI addresses that the NVIDIA driver serves at this moment."""
        try:
            entries = [entry.name for entry in (self.root / "sys/bus/pci/drivers/nvidia").iterdir()]
        except OSError:
            return frozenset()
        return frozenset(name for name in entries if ":" in name)

    def access(
        self, minor: int | None, gpu_instance: int, compute_instance: int
    ) -> tuple[int, ...]:
        """Find the capability nodes that open a MIG instance: its GPU and compute instance's."""
        instance = f"proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gpu_instance}"
        files = (f"{instance}/access", f"{instance}/ci{compute_instance}/access")
        return tuple(self._minors(files))

    def _minors(self, files: tuple[str, ...]) -> Iterator[int]:
        for file in files:
            found = re.search(r"DeviceFileMinor:\s*(\d+)", _text(self.root / file))
            if found:
                yield int(found.group(1))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
