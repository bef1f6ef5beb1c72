"""The line of the table that a verdict in an arena makes."""

from __future__ import annotations

from collections.abc import Iterable

from celeriac.chaos.checker import Verdict
from celeriac.chaos.processes import WorkerSet
from celeriac.chaos.scene import Pool, Scene
from celeriac.chaos.table import Row
from tests.chaos.load import resumed_s
from tests.chaos.stock import Stock


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


def stock_row(
    fault: str,
    arena: Stock,
    pool: Pool,
    worker_set: WorkerSet,
    *,
    faults: int,
    ends: Iterable[float] = (),
    note: str = "",
) -> Row:
    """Make stock Celery's line; ``ends`` are when its faults were over (monotonic seconds)."""
    left = f"{note}{len(worker_set.ended)} workers left for good"
    recovery_s = resumed_s(arena, ends)
    return row(fault, arena, pool, arena.verdict(), faults=faults, recovery_s=recovery_s, note=left)
