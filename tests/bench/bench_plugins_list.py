"""`agentctl plugins list` with 300 installed distributions, the whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import agents

TRIES = 12
COUNT = 300


def fill(directory: Path, count: int) -> None:
    """Write dist-info directories; one in ten has entry points of some other kind."""
    for number in range(count):
        info = directory / f"filler_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: filler-{number}\nVersion: 1.0\n"
        )
        (info / "RECORD").write_text("")
        if number % 10 == 0:
            (info / "entry_points.txt").write_text(
                f"[console_scripts]\nfiller{number} = filler:main\n"
            )


def main() -> None:
    """Print the rows."""
    with agents.directory() as root, tempfile.TemporaryDirectory(prefix="dists-") as name:
        fill(Path(name), COUNT)
        env = {**os.environ, "PYTHONPATH": name}
        command = [agents.AGENTCTL, "plugins", "list", "-f", str(root / "agent.toml")]

        def timed(argv: list[str]) -> float:
            began = time.perf_counter()
            subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
            return (time.perf_counter() - began) * 1e3

        listed = agents.best(TRIES, lambda: timed(command))
        python = agents.best(TRIES, lambda: timed([sys.executable, "-c", "pass"]))
        click = agents.best(TRIES, lambda: timed([sys.executable, "-c", "import click"])) - python
    note = f"a bare interpreter takes {python:.0f} ms, importing click {click:.0f} ms"
    rows = [
        agents.row(
            f"`agentctl plugins list`, {COUNT} distributions",
            f"{listed:.0f} ms",
            "<= 150 ms",
            met=listed <= 150,
            note=note,
        )
    ]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
