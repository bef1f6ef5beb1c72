"""Is a priority served first in, first out? Pure.

Promised is the order of claiming. A single consumer with one slot runs what it claims one after the other,
so there the order of first starts shows it. A fault that struck the consumer may have sent back what it held:
those jobs, no more than it can hold, come later than it would have been their turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from celeriac.chaos.sidefile import Run


@dataclass(frozen=True, slots=True)
class Disorder:
    """What of one priority ran out of order."""

    priority: str
    displaced: int
    """The least number of jobs without which the others ran in order."""
    example: tuple[str, str]
    """The job that started although the other, accepted before it, had not."""


def disorders(
    accepted: Iterable[str], runs: Sequence[Run], *, priorities: Mapping[str, str] | None = None
) -> list[Disorder]:
    """Compare the order of acceptance with that of first starts, priority by priority.

    ``accepted`` jobs come in the order in which the broker took them; ``priorities`` names those that are
    not ``normal``. Jobs that never ran are no matter of order.
    """
    first: dict[str, float] = {}
    for run in runs:
        first[run.job] = min(run.started, first.get(run.job, run.started))
    lanes: dict[str, list[str]] = defaultdict(list)
    for job in accepted:
        if job in first:
            lanes[(priorities or {}).get(job, "normal")].append(job)
    found = (_disorder(name, jobs, first) for name, jobs in lanes.items())
    return [disorder for disorder in found if disorder is not None]


def _disorder(priority: str, jobs: Sequence[str], first: Mapping[str, float]) -> Disorder | None:
    for earlier, later in pairwise(jobs):
        if first[later] < first[earlier]:
            displaced = len(jobs) - _longest_rise([first[job] for job in jobs])
            return Disorder(priority, displaced, (later, earlier))
    return None


def _longest_rise(values: Sequence[float]) -> int:
    """The length of the longest increasing subsequence, by patience sorting."""
    tails: list[float] = []
    for value in values:
        at = bisect_left(tails, value)
        tails[at : at + 1] = [value]
    return len(tails)
