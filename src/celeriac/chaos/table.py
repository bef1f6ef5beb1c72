"""What a run showed, as a table: one line for each fault, system and pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line, in the order of its columns."""

    fault: str
    system: str
    pool: str
    jobs: int
    faults: int
    lost: int
    twice: int
    """Jobs that finished more than once."""
    recovery_s: float
    """The longest time until a job that a fault had struck, or any job after an outage, ran."""
    note: str


_HEAD = ("fault", "system", "pool", "jobs", "faults", "lost", "twice", "recovery s", "note")
_NUMBERS = range(3, 8)


def table(rows: Sequence[Row]) -> list[str]:
    """Lay the rows out for people."""
    cells = [_HEAD, *(tuple(map(_text, astuple(line))) for line in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEAD))]
    return [
        "  ".join(
            cell.rjust(width) if n in _NUMBERS else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
