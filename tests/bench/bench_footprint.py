"""How much the README's set installs: distributions and megabytes, dependencies included."""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import agents

SET = [
    "agent-core",
    "agent-backend-process",
    "agent-kernel-runner",
    "scratch-hostdir",
    "accel-mock",
]


def closure(names: list[str]) -> dict[str, Distribution]:
    """Follow the requirements of a set, without extras."""
    found: dict[str, Distribution] = {}
    pending = list(names)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # its marker does not hold here
        for requirement in found[name].requires or []:
            if "extra ==" not in requirement:
                pending.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return found


def size(dist: Distribution) -> int:
    """Bytes of a distribution's files; an editable one counts its packages in the checkout."""
    files = [Path(str(dist.locate_file(f))) for f in dist.files or []]
    redirected = [
        Path(line)
        for f in files
        if f.suffix == ".pth" and f.exists()
        for line in f.read_text().splitlines()
        if line.startswith("/")
    ]
    own = [p for root in redirected for p in root.rglob("*") if _ships(p.relative_to(root))]
    return sum(f.stat().st_size for f in [*files, *own] if f.is_file())


def _ships(path: Path) -> bool:
    return path.parts[0] in {
        "agent_core",
        "agent_backend_process",
        "agent_kernel_runner",
        "scratch_hostdir",
        "accel_mock",
    }


def main() -> None:
    """Print the rows."""
    found = closure(SET)
    megabytes = sum(size(dist) for dist in found.values()) / 1e6
    largest = sorted(((size(d) / 1e6, n) for n, d in found.items()), reverse=True)[:4]
    top = ", ".join(f"{name} {mb:.1f}" for mb, name in largest)
    rows = [
        agents.row(
            "distributions installed by the set",
            str(len(found)),
            "<= 40",
            met=len(found) <= 40,
            note="[142]",
        ),
        agents.row(
            "size of what is installed",
            f"{megabytes:.1f} MB",
            "<= 60 MB",
            met=megabytes <= 60,
            note=f"[536 MB]; compiled files included; largest: {top}",
        ),
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
