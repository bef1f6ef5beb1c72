"""What a messaging backend asks about its queues: exact counts, age, and typical times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from celeriac import Histogram, QueueStats


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMetrics(QueueStats):
    """One queue, measured at one instant: the platform's counts, and how long jobs typically take.

    The times are upper bounds, in milliseconds: half of the jobs (or 99 of 100) waited, or ran, no
    longer than that; None when no job has, or when it is beyond the last bound measured.
    """

    @property
    def oldest_ready_seconds(self) -> int:
        """How long the oldest ready job has been ready."""
        return self.oldest_ready_ms // 1000

    @property
    def wait_p50_ms(self) -> int | None:
        """Half of the jobs waited no longer."""
        return _quantile(self.wait, 50)

    @property
    def wait_p99_ms(self) -> int | None:
        """99 of 100 jobs waited no longer."""
        return _quantile(self.wait, 99)

    @property
    def run_p50_ms(self) -> int | None:
        """Half of the jobs ran no longer."""
        return _quantile(self.run, 50)

    @property
    def run_p99_ms(self) -> int | None:
        """99 of 100 jobs ran no longer."""
        return _quantile(self.run, 99)


def from_stats(stats: QueueStats) -> QueueMetrics:
    """From what `celeriac.Client.stats` measured."""
    return QueueMetrics(**{field.name: getattr(stats, field.name) for field in fields(stats)})


def _quantile(times: Histogram, percent: int) -> int | None:
    return quantile(times.bounds_ms, times.counts, percent)


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
