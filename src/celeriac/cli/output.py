"""How results are written: tables with colour on a terminal, plain aligned text in a pipe.

Nothing but results goes to standard output; progress, notes and errors go to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.table import Table

Cell = str | int | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; ``style`` colours a cell on a terminal."""

    title: str
    right: bool = False
    style: Callable[[Cell], str] | None = None


def on_terminal() -> bool:
    """Tell whether standard output is a terminal that can do more than print lines."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def no_colour() -> bool:
    """Tell whether the person asked for no colour (the NO_COLOR convention)."""
    return bool(os.environ.get("NO_COLOR"))


def text(cell: Cell) -> str:
    """Write a cell."""
    return "-" if cell is None else str(cell)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table the way the receiver can read it: plain also where it is too wide to be drawn."""
    if on_terminal() and fits(columns, rows):
        from rich.console import Console

        Console().print(rich_table(columns, rows))
    else:
        for line in plain_table(columns, rows):
            click.echo(line)


def fits(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> bool:
    """Tell whether a drawn table is no wider than the terminal."""
    drawn = max(len(line) for line in plain_table(columns, rows)) + len(columns) + 1
    return drawn <= shutil.get_terminal_size().columns


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Align cells with spaces; no escape codes, one row a line whatever a cell holds."""
    cells = [[column.title for column in columns]]
    cells += [[" ".join(text(cell).split()) or "-" for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Table:
    """Make a table for a terminal; markup in a cell is just text."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(
            *(
                Text(text(cell), style=column.style(cell) if column.style else "")
                for cell, column in zip(row, columns, strict=True)
            )
        )
    return table


def print_json(value: Any, *, compact: bool = False) -> None:
    """Print JSON, on one line if compact."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=None if compact else 2))


def print_yaml(value: Any) -> None:
    """Print YAML with keys in their order."""
    import yaml

    click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip())


def note(message: str) -> None:
    """Tell the person something beside the result."""
    click.echo(message, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; off it, insist on ``--yes``. Returns when the answer is yes."""
    from celeriac.cli.errors import BadInput

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadInput(question.rstrip("?") + ": this needs --yes when there is nobody to ask")
    click.confirm(question, abort=True, err=True)
