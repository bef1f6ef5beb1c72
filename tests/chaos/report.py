"""The line of the table that a verdict in an arena makes."""

from __future__ import annotations

from celeriac.chaos.checker import Verdict
from celeriac.chaos.scene import Pool, Scene
from celeriac.chaos.table import Row


def row(
    fault: str,
    arena: Scene,
    pool: Pool,
    verdict: Verdict,
    *,
    faults: int,
    recovery_s: float | None = None,
    note: str = "",
) -> Row:
    """Make the line of a verdict; ``recovery_s`` comes before the verdict's own."""
    return Row(
        fault=fault,
        system=arena.system,
        pool=pool,
        jobs=verdict.jobs,
        faults=faults,
        lost=len(verdict.lost),
        twice=verdict.duplicated,
        recovery_s=verdict.recovery_s if recovery_s is None else recovery_s,
        note=note,
    )
