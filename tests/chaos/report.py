"""What the fault tests showed, as a table: one line for each row of the matrix, system and pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.checker import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line."""

    fault: str
    system: str
    pool: str
    jobs: int
    faults: int
    lost: int
    duplicated: int
    recovery_s: float
    note: str = ""

    @classmethod
    def of(
        cls,
        verdict: Verdict,
        *,
        fault: str,
        system: str,
        pool: str,
        faults: int,
        recovery_s: float | None = None,
        note: str = "",
    ) -> Row:
        """Make the line of a verdict; ``recovery_s`` comes before the verdict's own."""
        return cls(
            fault=fault,
            system=system,
            pool=pool,
            jobs=verdict.jobs,
            faults=faults,
            lost=len(verdict.lost),
            duplicated=verdict.duplicated,
            recovery_s=verdict.recovery_s if recovery_s is None else recovery_s,
            note=note,
        )


_HEAD = ("fault", "system", "pool", "jobs", "faults", "lost", "twice", "recovery s", "note")


def table(rows: Sequence[Row]) -> list[str]:
    """Lay the rows out for people."""
    cells = [_HEAD] + [
        (
            row.fault,
            row.system,
            row.pool,
            f"{row.jobs:,}",
            str(row.faults),
            str(row.lost),
            str(row.duplicated),
            f"{row.recovery_s:.1f}",
            row.note,
        )
        for row in rows
    ]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEAD))]
    return [
        "  ".join(
            cell.rjust(width) if 3 <= n <= 7 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
