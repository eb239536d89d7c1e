"""The sessions of this node: kernels that belong together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentGroup, assignment, current
from agent_core.cli.output import moment, plain, print_json, print_rows
from agent_core.cli.specification import specification, startup_options

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient
    from agent_core.wire.models import KernelRow, SessionCreated

_COLUMNS = {"SESSION": "session_id", "KERNELS": "kernels", "CREATED": "created"}


@click.group(
    cls=AgentGroup,
    examples="""
        agentctl sessions create --image python --slot cpu=1 --size 2
        agentctl sessions list
        agentctl sessions destroy SESSION
    """,
)
def sessions() -> None:
    """The sessions of this node: kernels that are created and destroyed as one."""


@sessions.command(
    "create",
    examples="""
        agentctl sessions create --image python --slot cpu=1 --size 2 --session-id train
        agentctl sessions create --image python --slot mem=256m --role main=1 --role worker=2
    """,
)
@click.option("--image", required=True, help="One of `agentctl images list`.")
@click.option("--slot", "slots", multiple=True, metavar="SLOT=AMOUNT", help="For each kernel.")
@click.option("--env", "environment", multiple=True, metavar="KEY=VALUE", help="A variable.")
@click.option("--size", type=click.IntRange(1, 256), default=1, help="How many kernels.")
@click.option("--role", "roles", multiple=True, metavar="ROLE=COUNT", help="Instead of --size.")
@startup_options
@click.option("--session-id", metavar="ID", help="Its id; the same id twice makes one session.")
@click.option("--wait/--no-wait", default=True, help="Wait until all run, which is the default.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.")
def create(
    *,
    image: str,
    slots: tuple[str, ...],
    environment: tuple[str, ...],
    size: int,
    roles: tuple[str, ...],
    session_id: str | None,
    wait: bool,
    timeout: float | None,
    startup_command: str | None,
    startup_timeout: float | None,
    bootstrap_script: str | None,
) -> int:
    """Create a session of several kernels, all or none, and wait until they run.

    The first of them runs the startup command, once all run, and the session ends with it.
    """
    from agent_core.cli.connection import ask

    asked = {"image": image, "slots": slots, "env": environment}
    spec = specification({**asked, "bootstrap_script": bootstrap_script})
    specs = [{**spec, **each} for each in _places(size, roles)]
    startup = {"startup_command": startup_command, "startup_timeout": startup_timeout}
    specs[0] |= specification(startup)
    created = ask(lambda agent: _create(agent, specs, session_id, wait=wait, timeout=timeout))
    if current().json:
        print_json(plain(created))
    else:
        for kernel in created.kernels:
            click.echo(f"{created.session_id}  {kernel.kernel_id}  {kernel.state}")
    return 0


def _places(size: int, roles: tuple[str, ...]) -> list[dict[str, Any]]:
    if not roles:
        return [{} for _ in range(size)]
    places: list[dict[str, Any]] = []
    for role, count in (assignment(text, "--role") for text in roles):
        if not count.isdecimal() or not 1 <= int(count) <= 256:
            raise click.BadParameter(f"{count!r} is not 1 to 256", param_hint="--role")
        places += [{"role": role} for _ in range(int(count))]
    return places


async def _create(
    agent: AgentClient,
    specs: list[dict[str, Any]],
    session_id: str | None,
    *,
    wait: bool,
    timeout: float | None,
) -> SessionCreated:
    from agent_core.cli.creating import failure, has_run

    created = await agent.create_session(specs, session_id)
    if not wait:
        return created
    rows = await asyncio.gather(
        *(agent.wait_kernel(k.kernel_id, ["RUNNING"], timeout=timeout) for k in created.kernels)
    )
    over = any(map(has_run, rows))
    failed = [row for row in rows if row.state != "RUNNING" and not over]
    if failed:
        # The one that failed says why; the others only that one did.
        first = min(failed, key=lambda row: row.reason == "session-failed")
        raise failure(await agent.get_kernel_status(first.kernel_id))
    states = zip(created.kernels, rows, strict=True)
    kernels = tuple(each.model_copy(update={"state": row.state}) for each, row in states)
    return created.model_copy(update={"kernels": kernels})


@sessions.command("list", examples="agentctl sessions list --all")
@click.option("--all", "include_ended", is_flag=True, help="Also kernels that have ended.")
def list_sessions(*, include_ended: bool) -> None:
    """List the sessions with their kernels, oldest first."""
    from agent_core.cli.connection import ask

    found = ask(lambda agent: agent.list_sessions(include_ended=include_ended))
    rows = [plain(row) for row in found]
    if not current().json:
        rows = [_line(row) for row in rows]
    print_rows(rows, _COLUMNS, empty="there is no session")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    kernels = {
        f"{kernel['host']}:{kernel['kernel_id']}": kernel["state"] for kernel in row["kernels"]
    }
    return {**row, "kernels": kernels, "created": moment(row["created_at"])}


@sessions.command("destroy", examples="agentctl sessions destroy SESSION")
@click.argument("session_id", metavar="ID")
@click.option("--wait/--no-wait", default=True, help="Wait until all are gone, the default.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.")
def destroy(session_id: str, *, wait: bool, timeout: float | None) -> None:
    """Destroy all kernels of a session, and wait until everything is given back."""
    from agent_core.cli.connection import ask

    rows = ask(lambda agent: _destroy(agent, session_id, wait=wait, timeout=timeout))
    if current().json:
        print_json([plain(row) for row in rows])
        return
    for row in rows:
        click.echo(f"{row.kernel_id}  {row.state} ({row.reason})")


async def _destroy(
    agent: AgentClient, session_id: str, *, wait: bool, timeout: float | None
) -> list[KernelRow]:
    rows = await agent.destroy_session(session_id)
    if not wait:
        return rows
    waits = (agent.wait_kernel(row.kernel_id, ["TERMINATED"], timeout=timeout) for row in rows)
    return [*await asyncio.gather(*waits)]
