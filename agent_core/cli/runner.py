"""The kernel runner's bundle: what containers have mounted to be run by, made and checked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import print_fields, print_json, shown, size

if TYPE_CHECKING:
    from agent_core.config.model import AgentConfig
    from agent_core.contracts.runner import KernelRunner

_DIRECTORY = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where bundles are; by default in the agent's state directory.",
)


@click.group(cls=AgentGroup, examples="agentctl runner build\nagentctl runner check --full")
def runner() -> None:
    """The kernel runner: an interpreter of its own, so that it works in any image.

    The agent makes it by itself when a backend needs it. These commands need no agent.
    """


@runner.command("build", examples="agentctl runner build\nagentctl runner build --force --json")
@click.option("--force", is_flag=True, help="Make it again even where it is whole.")
@_DIRECTORY
def build(*, force: bool, directory: Path | None) -> None:
    """Make the runner's bundle from this machine's Python, unless it is there and whole.

    Kernels that run keep the one that they were started with.
    """
    config, selected = _selected()
    place = directory or config.paths.bundles
    if not current().json:
        click.echo(f"making the runner in {shown(place)} (some seconds) ...", err=True)
    began = time.monotonic()
    bundle = Path(selected.bundle(str(place), anew=force))
    files = [path for path in bundle.rglob("*") if path.is_file()]
    total, seconds = sum(path.stat().st_size for path in files), time.monotonic() - began
    if current().json:
        print_json({"path": str(bundle), "files": len(files), "bytes": total, "seconds": seconds})
        return
    print_fields(
        {"path": bundle, "files": len(files), "size": size(total), "took": f"{seconds:.1f} s"}
    )


@runner.command("check", examples="agentctl runner check\nagentctl runner check --full --json")
@click.option("--full", is_flag=True, help="Read every byte, not only names and sizes.")
@_DIRECTORY
def check(*, full: bool, directory: Path | None) -> int:
    """Say whether the runner's bundle is there and whole; the exit code is 1 when it is not."""
    config, selected = _selected()
    place = directory or config.paths.bundles
    faults = [*selected.bundle_faults(str(place), thorough=full)]
    if current().json:
        print_json({"directory": str(place), "ok": not faults, "faults": faults})
        return int(bool(faults))
    for fault in faults:
        click.echo(f"fault: {shown(fault)}", err=True)
    click.echo("run `agentctl runner build`" if faults else f"whole: {shown(place)}")
    return int(bool(faults))


def _selected() -> tuple[AgentConfig, KernelRunner]:
    """Find the runner that the configuration selects, without any agent.

    Raises:
        PluginError: when there is none that can be used, with the reason.
    """
    from agent_core.config.loader import load
    from agent_core.host.plugin_host import PluginHost
    from agent_core.host.tables import PluginTables

    config = load(current().config).config
    # Devices have no part in this, and some of them would start workers.
    selection = replace(config.selection, allow_devices=())
    host = PluginHost(selection, PluginTables(config.plugin, sections=config.sections))
    host.load()

    async def opened() -> KernelRunner:
        await host.open_all(config.plugins.deadline, kinds=("runner",))
        found: KernelRunner = host.runner.instance
        return found

    return config, asyncio.run(opened())
