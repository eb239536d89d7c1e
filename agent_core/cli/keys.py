"""The keys of callers by TCP: who may call, with which role."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_core.cli.options import AgentGroup, current
from agent_core.cli.output import print_fields, print_json, print_rows
from agent_core.wire.roles import Role

if TYPE_CHECKING:
    from agent_core.wire.keys import Caller

_COLUMNS = {"NAME": "name", "ROLE": "role", "PUBLIC KEY": "public_key", "SECRET": "secret"}
_ROLES = [role.label for role in Role]


@click.group(
    cls=AgentGroup,
    examples="agentctl keys list\nagentctl keys add manager --role operate",
)
def keys() -> None:
    """The keys of callers by TCP, in the state directory of this machine's agent.

    A running agent takes up each change by itself, and hangs up on a caller that was removed.
    """


@keys.command("list", examples="agentctl keys list --json")
def list_keys() -> None:
    """List who may call by TCP, and with which role."""
    from agent_core.wire.keyring import callers

    directory = _directory()
    rows = [_row(directory, caller) for caller in callers(directory)]
    print_rows(rows, _COLUMNS, empty="no keys yet: the agent makes its own at its first start")


@keys.command(
    "add",
    examples="agentctl keys add manager --role operate\n"
    "agentctl keys add dashboard --role read --public KEY",
)
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What it may do.")
@click.option(
    "--public", metavar="KEY", help="Its public key or the file of it; else a pair is made here."
)
def add_key(*, name: str, role: str, public: str | None) -> None:
    """Let a caller in, or give one that is in already another role."""
    from agent_core.wire.keyring import admit

    directory = _directory()
    caller = admit(directory, name, Role[role.upper()], _public_key(public))
    row = _row(directory, caller)
    if current().json:
        print_json(row)
        return
    print_fields(row)
    if row["secret"] is not None and public is None:
        click.echo(f"{name} needs its secret and {directory / 'server.key'}", err=True)


@keys.command("remove", examples="agentctl keys remove manager")
@click.argument("name")
def remove_key(*, name: str) -> None:
    """Let a caller in no more; what it has open is closed."""
    from agent_core.wire.keyring import expel

    expel(_directory(), name)
    if current().json:
        print_json({"name": name})
    else:
        click.echo(f"{name} is not let in any more")


@keys.command("show", examples="agentctl keys show\nagentctl keys show manager")
@click.argument("name", default="server")
def show_key(*, name: str) -> None:
    """Show the agent's own public key, or one caller's; never a secret."""
    row = _shown(_directory(), name)
    if current().json:
        print_json(row)
    else:
        print_fields({key: value for key, value in row.items() if value is not None})


def _shown(directory: Path, name: str) -> dict[str, Any]:
    from agent_core.contracts.errors import NotFound
    from agent_core.wire.keyring import callers, secret_of
    from agent_core.wire.keys import SERVER, read_public_key

    if name == SERVER:
        public = read_public_key(directory / f"{SERVER}.key").decode()
        secret = secret_of(directory, SERVER)
        return {"name": name, "role": None, "public_key": public, "secret": _text(secret)}
    for caller in callers(directory):
        if caller.name == name:
            return _row(directory, caller)
    raise NotFound(f"no caller {name} in {directory}", hint="See `agentctl keys list`.")


def _public_key(text: str | None) -> bytes | None:
    from agent_core.wire.keys import KEY_LENGTH, read_public_key

    if text is None:
        return None
    if len(text) != KEY_LENGTH and Path(text).exists():
        return read_public_key(Path(text))
    return text.encode(errors="replace")


def _row(directory: Path, caller: Caller) -> dict[str, Any]:
    from agent_core.wire.keyring import secret_of

    return {
        "name": caller.name,
        "role": caller.role.label,
        "public_key": caller.public.decode(),
        "secret": _text(secret_of(directory, caller.name)),
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _directory() -> Path:
    from agent_core.config.quick import glance

    return glance(current().config).paths.keys
