"""What a messaging backend asks about its queues: exact counts, age, and typical times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COUNTS = (
    "accepted",
    "done",
    "discarded",
    "purged",
    "dead",
    "ready",
    "leased",
    "delayed",
    "retried",
    "redelivered",
    "redriven",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMetrics:
    """One queue, measured at one instant.

    The times are upper bounds, in milliseconds: half of the jobs (or 99 of 100) waited, or ran, no
    longer than that; None when no job has, or when it is beyond the last bound measured.
    """

    queue: str
    accepted: int
    done: int
    discarded: int
    purged: int
    dead: int
    ready: int
    leased: int
    delayed: int
    retried: int
    redelivered: int
    redriven: int
    oldest_ready_seconds: int
    wait_p50_ms: int | None
    wait_p99_ms: int | None
    run_p50_ms: int | None
    run_p99_ms: int | None
    paused: bool

    @property
    def unfinished(self) -> int:
        """Jobs that will still run: ready, running or waiting for their time."""
        return self.ready + self.leased + self.delayed

    @property
    def imbalance(self) -> int:
        """Zero as long as nothing is lost and nothing doubled (the conservation law)."""
        finished = self.done + self.discarded + self.purged + self.dead
        return self.accepted - finished - self.unfinished


def from_stats(queue: str, stats: Any) -> QueueMetrics:
    """From what `celeriac.Client.stats` measured."""
    counts = {name: int(getattr(stats, name)) for name in COUNTS}
    wait, run = stats.wait, stats.run
    return QueueMetrics(
        queue=queue,
        **counts,
        oldest_ready_seconds=stats.oldest_ready_ms // 1000,
        wait_p50_ms=quantile(wait.bounds_ms, wait.counts, 50),
        wait_p99_ms=quantile(wait.bounds_ms, wait.counts, 99),
        run_p50_ms=quantile(run.bounds_ms, run.counts, 50),
        run_p99_ms=quantile(run.bounds_ms, run.counts, 99),
        paused=bool(stats.paused),
    )


def quantile(bounds: Sequence[int], counts: Sequence[int], percent: int) -> int | None:
    """The least bound that at least `percent` of the counted values do not exceed."""
    total = sum(counts)
    if total == 0:
        return None
    seen = 0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if seen * 100 >= percent * total:
            return bound
    return None
