"""The node's images: listed, pulled, pushed and purged."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import plain, print_json, print_json_line, print_rows, shown, size

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient
    from agent_core.wire.content import PullProgress


@click.group(cls=AgentGroup, examples="agentctl images list\nagentctl images pull python:3.12")
def images() -> None:
    """The images of this node."""


@images.command("list", examples="agentctl images list")
def list_images() -> None:
    """List the images that can be started."""
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_images())]
    columns = {"NAME": "name", "ARCHITECTURE": "architecture", "DIGEST": "digest"}
    print_rows(rows, columns, empty="the backend has no image")


@images.command("pull", examples="agentctl images pull python:3.12")
@click.argument("name")
def pull(name: str) -> None:
    """Fetch an image, showing how far each layer is; it goes on when you leave."""
    _follow(lambda agent: agent.pull_image(name))
    _say("pulled", name)


@images.command("push", examples="agentctl images push registry.example.com/mine:1")
@click.argument("name")
def push(name: str) -> None:
    """Send an image to its registry."""
    _follow(lambda agent: agent.push_image(name))
    _say("pushed", name)


@images.command("purge", examples="agentctl images purge python:3.12")
@click.argument("name")
def purge(name: str) -> None:
    """Remove an image from the node; succeeds when it is not there."""
    from agent_core.cli.connection import ask

    ask(lambda agent: agent.purge_image(name))
    _say("purged", name)


def _follow(begin: Callable[[AgentClient], AsyncGenerator[PullProgress, None]]) -> None:
    from agent_core.cli.connection import ask

    async def work(agent: AgentClient) -> None:
        layers: dict[str, PullProgress] = {}
        async for progress in begin(agent):
            if current().json:
                print_json_line(plain(progress))
                continue
            layers[progress.layer] = progress
            _draw(layers)

    ask(work)
    if not current().json and sys.stderr.isatty():
        click.echo("", err=True)


def _draw(layers: dict[str, PullProgress]) -> None:
    """Show one line of all layers together on a terminal; elsewhere only what is complete."""
    there = sum(each.current or 0 for each in layers.values())
    whole = sum(each.total or 0 for each in layers.values())
    if not sys.stderr.isatty():
        return
    share = f" {there * 100 // whole:3d}%" if whole else ""
    text = f"{len(layers)} layers, {size(there)} of {size(whole)}{share}"
    click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _say(what: str, name: str) -> None:
    if current().json:
        print_json({"name": name, "status": what})
    else:
        click.echo(f"{shown(name)}: {what}")
