"""Why a kernel has what it has, or would get what it asks for: as a tree for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from agent_core.cli.options import AgentCommand, current
from agent_core.cli.output import plain, print_json, shown, size

if TYPE_CHECKING:
    from agent_core.wire.decisions import Plan

_NAMED: Final = 8
"""Devices that one line names; the rest is counted."""


class Branch(NamedTuple):
    """One line of the tree with what is below it."""

    text: str
    below: Sequence[Branch] = ()


@click.command(cls=AgentCommand, examples="agentctl explain KERNEL\nagentctl explain KERNEL --json")
@click.argument("kernel_id", metavar="ID")
def explain(kernel_id: str) -> None:
    """Explain why a kernel has the devices that it has."""
    from agent_core.cli.connection import ask

    row = plain(ask(lambda agent: agent.explain_kernel(kernel_id)))
    if current().json:
        print_json(row)
        return
    notes = [Branch(note) for note in row["notes"]]
    title = f"kernel {row['kernel_id']}: {row['state']}"
    _print_tree(Branch(title, [*_slots(row["slots"]), *notes]))


def show_plan(plan: Plan) -> int:
    """Print what a create would get; returns the exit code, 1 when it would be refused."""
    row = plain(plan)
    if current().json:
        print_json(row)
    else:
        title = "would be created with" if row["granted"] else "would be refused"
        _print_tree(Branch(title, _slots(row["slots"])))
    return 0 if row["granted"] else 1


def _slots(rows: Sequence[Mapping[str, Any]]) -> list[Branch]:
    return [_slot(row) for row in rows]


def _slot(row: Mapping[str, Any]) -> Branch:
    asked, free = _amount(row, row["asked"]), _amount(row, row["free"])
    verdict = "given" if row["granted"] else "cannot be given"
    near = f", near NUMA node {shown(row['near'])}" if row["near"] else ""
    title = f"{row['slot']}={asked} of plugin {row['plugin']}: {verdict}; {free} was free{near}"
    below = [*_taken(row), *_others(row)]
    if row["more"]:
        below.append(Branch(f"{row['more']} more devices were looked at"))
    below += [Branch(f"it would fit: {remedy['text']}") for remedy in row["remedies"]]
    return Branch(title, below)


def _taken(row: Mapping[str, Any]) -> Iterator[Branch]:
    for (amount, reason), names in _grouped(row, taken=True).items():
        each = " each" if len(names) > 1 else ""
        yield Branch(f"{_amount(row, amount)}{each} of {_names(names)}: {reason}")


def _others(row: Mapping[str, Any]) -> Iterator[Branch]:
    for (free, reason), names in _grouped(row, taken=False).items():
        some = f"{_amount(row, free)} " if reason == "free" else ""
        yield Branch(f"passed over {_names(names)}: {some}{reason}")


def _grouped(row: Mapping[str, Any], *, taken: bool) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for each in row["candidates"]:
        if (each["taken"] != "0") is taken:
            key = (each["taken" if taken else "free"], each["reason"])
            node = "" if each["numa_node"] is None else f" (NUMA {each['numa_node']})"
            groups.setdefault(key, []).append(f"{each['device_id']}{node}")
    return groups


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _amount(row: Mapping[str, Any], amount: str) -> str:
    return size(int(amount)) if row["type"] == "bytes" else amount


def _print_tree(root: Branch) -> None:
    drawn = (sys.stdout.encoding or "").lower().startswith("utf")
    marks = ("├─ ", "└─ ", "│  ") if drawn else ("|- ", "`- ", "|  ")
    click.echo(shown(root.text))
    for line in _lines(root.below, marks):
        click.echo(line)


def _lines(branches: Sequence[Branch], marks: tuple[str, str, str]) -> Iterator[str]:
    for number, branch in enumerate(branches, 1):
        last = number == len(branches)
        yield marks[1 if last else 0] + shown(branch.text)
        indent = "   " if last else marks[2]
        yield from (indent + line for line in _lines(branch.below, marks))
