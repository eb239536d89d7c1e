"""Measure what the project promises, and write the table from the run's own figures.

    python tests/bench/run.py            measure all, write docs/reference/benchmarks.{json,md}
    python tests/bench/run.py --dry-run  measure all, print the table only

Each figure stands beside its target; a missed one stays in, with where the time goes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs/reference/benchmarks.md"
DATA = ROOT / "docs/reference/benchmarks.json"
SCRIPTS = [
    "bench_start.py",
    "bench_footprint.py",
    "bench_rpc.py",
    "bench_curve.py",
    "bench_plugins_list.py",
    "bench_allocation.py",
    "bench_create.py",
    "bench_docker.py",
    "bench_ledger.py",
    "bench_restart.py",
    "bench_scale.py",
    "bench_devices.py",
    "bench_lag.py",
    "bench_hung.py",
    "bench_worker.py",
    "bench_tls.py",
]
DEADLINE = 600.0
WIDTH = 40


def measure(script: str) -> dict[str, Any]:
    """Run one script in a process of its own and read the rows and the growth that it prints."""
    print(f"{script} ...", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, str(HERE / script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def environment() -> dict[str, Any]:
    """Say what was measured, where and when."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() + ("+" if dirty.stdout.strip() else ""),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def table(result: dict[str, Any]) -> str:
    """Render the page."""
    where = result["environment"]
    lines = [
        "# Benchmarks",
        "",
        "<!-- written by `nox -s bench` from benchmarks.json; do not edit -->",
        "",
        (
            f"Commit `{where['commit']}`, {where['cpus']} CPUs, Python {where['python']}, "
            f"{where['system']}, {where['date']}. Times are the best of several tries unless a row "
            "says otherwise; ratios are within one run."
        ),
        "",
        "| what | measured | target | met | in brackets: the system of the seeds; notes |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        met = "yes" if row["met"] else "**no**"
        lines.append(
            f"| {row['what']} | {row['measured']} | {row['target']} | {met} | {row['note']} |"
        )
    for name, points in result["growth"].items():
        lines += ["", *plotted(name, points)]
    return "\n".join(lines) + "\n"


def plotted(name: str, points: list[dict[str, float]]) -> list[str]:
    """Draw how each figure grows: a bar for each size, the longest of each figure the same."""
    by, *figures = points[0]
    lines = [f"## Growth: {name}", "", "```text"]
    for figure in figures:
        most = max(point[figure] for point in points) or 1.0
        lines.append(f"{figure}")
        for point in points:
            bar = "#" * max(1, round(point[figure] / most * WIDTH))
            lines.append(f"  {point[by]:>7.0f} {by:<8} {point[figure]:>9.2f}  {bar}")
    return [*lines, "```"]


def main() -> None:
    """Measure everything, then write or print."""
    measured = [measure(script) for script in SCRIPTS]
    result = {
        "environment": environment(),
        "rows": [row for each in measured for row in each["rows"]],
        "growth": {
            name: points for each in measured for name, points in each.get("growth", {}).items()
        },
    }
    text = table(result)
    if "--dry-run" not in sys.argv:
        DATA.write_text(json.dumps(result, indent=2) + "\n")
        PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
