"""Running code in a kernel from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from agent_core.cli.options import AgentCommand, current

_LARGEST = 512 << 10


@click.command(
    "exec",
    cls=AgentCommand,
    examples="""
        agentctl exec KERNEL -c 'print(6 * 7)'
        agentctl exec KERNEL script.py --timeout 60
        echo 'print(1)' | agentctl exec KERNEL -
        agentctl exec KERNEL --batch 'make && ./run'
    """,
)
@click.argument("kernel_id", metavar="ID")
@click.argument("script", metavar="[SCRIPT|-]", required=False)
@click.option("-c", "--code", help="The code to run.")
@click.option("--batch", metavar="COMMAND", help="A shell command to run instead of code.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds of running.")
def execute(
    kernel_id: str,
    *,
    script: str | None,
    code: str | None,
    batch: str | None,
    timeout: float | None,
) -> int:
    """Run code in a kernel; its output comes as it is written.

    The exit code is 0 when the code ended well. Ctrl-C interrupts the run, and once more leaves it.
    """
    if sum(source is not None for source in (script, code, batch)) != 1:
        raise click.UsageError("give the code once: a script, -, -c CODE or --batch COMMAND")
    mode: Literal["query", "batch"] = "query" if batch is None else "batch"
    text = next(t for t in (batch, code, script and _read(script)) if t is not None)

    from agent_core.cli.connection import ask
    from agent_core.cli.running import Run

    as_json = current().json
    return ask(lambda agent: Run(agent, kernel_id, as_json=as_json).run(text, mode, timeout))


def _read(script: str) -> str:
    try:
        data = _start_of(script)
    except OSError as exc:
        raise click.UsageError(f"cannot read {script}: {exc.strerror}") from exc
    if len(data) > _LARGEST:
        raise click.UsageError(f"{script} has more than {_LARGEST >> 10} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"{script} is not UTF-8") from exc


def _start_of(script: str) -> bytes:
    """Read no further than to see that it is too much: what is read may have no end."""
    if script == "-":
        return sys.stdin.buffer.read(_LARGEST + 1)
    with Path(script).open("rb") as file:
        return file.read(_LARGEST + 1)
