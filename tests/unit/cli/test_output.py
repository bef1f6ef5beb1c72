from __future__ import annotations

import io

import pytest
from rich.console import Console

from celeriac.cli.errors import BadInput
from celeriac.cli.output import Cell, Column, confirm, plain_table, rich_table

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


class Terminal(io.StringIO):
    """Text that is read from a terminal, or from none."""

    def __init__(self, text: str, *, real: bool) -> None:
        super().__init__(text)
        self._real = real

    def isatty(self) -> bool:
        return self._real


@pytest.mark.parametrize("real", [True, False])
def test_where_there_is_nobody_to_ask_it_must_be_said_beforehand(
    real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n", real=real))
    monkeypatch.setattr("sys.stderr", Terminal("", real=real))
    confirm("Delete 3 messages?", yes=True)
    if real:
        confirm("Delete 3 messages?", yes=False)
    else:
        with pytest.raises(BadInput, match="Delete 3 messages: this needs --yes"):
            confirm("Delete 3 messages?", yes=False)
