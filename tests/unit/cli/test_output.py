from __future__ import annotations

import io

from rich.console import Console

from celeriac.cli.output import Cell, Column, plain_table, rich_table

COLUMNS = (Column("NAME"), Column("READY", right=True), Column("STATE", style=lambda _: "red"))


def test_plain_tables_are_aligned_one_row_a_line() -> None:
    rows: list[list[Cell]] = [
        ["mail", 7, "Ready"],
        ["message-delivery", 1200, None],
        ["two\nlines", 0, ""],
    ]
    assert plain_table(COLUMNS, rows) == [
        "NAME              READY  STATE",
        "mail                  7  Ready",
        "message-delivery   1200  -",
        "two lines             0  -",
    ]


def test_markup_in_a_cell_is_text() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(rich_table(COLUMNS, [["[bold]x[/]", 1, "[/nope]"]]))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]x[/]" in written
    assert "[/nope]" in written
