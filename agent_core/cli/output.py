"""What is printed: JSON for machines, aligned columns for pipes, tables for terminals."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from agent_core.cli.options import current

if TYPE_CHECKING:
    from pydantic import BaseModel

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024


def print_json(data: object) -> None:
    """Print one JSON document."""
    import json

    click.echo(json.dumps(data, indent=2))


def print_json_line(data: object) -> None:
    """Print one JSON document in one line, at once: a part of a stream."""
    import json

    click.echo(json.dumps(data))


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str
) -> None:
    """Print a list: an array as JSON, otherwise a table.

    Args:
        rows: Plain data.
        columns: For each column's title, the key of its cells.
        empty: What to say to people when there are no rows.
    """
    rows = list(rows)
    if current().json:
        print_json(rows)
    elif rows:
        cells = [[shown(row.get(key)) for key in columns.values()] for row in rows]
        print_table(list(columns), cells)
    else:
        click.echo(empty, err=True)


def print_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; on a terminal a table that fits it."""
    if sys.stdout.isatty():
        _print_rich_table(titles, cells)
        return
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for row in (titles, *cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _print_rich_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    # A terminal's reader does not notice the milliseconds that a pipe would.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair in each line; what is empty is left out."""
    named = {name: shown(value) for name, value in fields.items()}
    width = max(map(len, named), default=0)
    for name, value in named.items():
        if value:
            click.echo(f"{name.ljust(width)}  {value}")


def print_error(error: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an error: as an object, or as one message and one hint."""
    if as_json:
        print_json({"error": dict(error)})
        return
    click.echo(f"error[{error['code']}]: {shown_lines(str(error['message']))}", err=True)
    if error.get("hint"):
        click.echo(f"hint: {shown_lines(str(error['hint']))}", err=True)


def plain(model: BaseModel) -> dict[str, Any]:
    """Turn a wire model into plain data: the documented shape of ``--json``."""
    return model.model_dump(mode="json")


def shown(value: object) -> str:
    """Render one value for people; control characters are escaped, None is a dash."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(shown(item) for item in value)
    return _CONTROL.sub(_escaped, str(value))


def shown_lines(text: str) -> str:
    """Render a text of several lines for people: all control characters but line ends escaped."""
    return "\n".join(_CONTROL.sub(_escaped, line) for line in text.split("\n"))


def _escaped(match: re.Match[str]) -> str:
    return repr(match.group())[1:-1]


def size(count: float) -> str:
    """Render bytes: ``1.5 GiB``."""
    for unit in _UNITS:
        if count < _STEP or unit == _UNITS[-1]:
            break
        count /= _STEP
    return f"{count:.0f} {unit}" if count == int(count) else f"{count:.1f} {unit}"


def moment(at: float | None) -> str:
    """Render a time of day; empty for None."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at is not None else ""
