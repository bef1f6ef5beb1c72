"""The load that a broker or its network is harmed under, and how it is seen that work goes on afterwards."""

from __future__ import annotations

import threading
import time
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from random import Random
from typing import Protocol

from celeriac.chaos.processes import WorkerSet, eventually
from celeriac.chaos.scene import Scene
from tests.chaos.arena import Job, work
from tests.chaos.ours import Celeriac


class Fed(Protocol):
    """Where jobs can be sent for sure."""

    random: Random

    def send_surely(self, jobs: Sequence[Job]) -> None:
        """Publish jobs until the broker says that it has them."""


@contextmanager
def feeding(arena: Fed, jobs: list[Job], *, seconds: float) -> Iterator[None]:
    """Publish jobs in the background, spread over so many seconds.

    When the block takes longer, they are published again, under other names: there is always work.
    """
    start, step = time.monotonic(), seconds / len(jobs)
    over = threading.Event()

    def feed() -> None:
        at = 0
        while at < len(jobs) or not over.is_set():
            lap, first = divmod(at, len(jobs))
            part = jobs[first : first + arena.random.randint(1, 40)]
            arena.send_surely([replace(job, id=job.id + lap * "+") for job in part])
            at += len(part)
            time.sleep(max(0.0, start + at * step - time.monotonic()))

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
    thread.join(120)
    assert not thread.is_alive(), "the producer is stuck"


def all_resume(arena: Celeriac, worker_set: WorkerSet) -> None:
    """Every worker that was there in the beginning serves again."""
    assert [worker.code for worker in worker_set.workers] == [None] * len(worker_set.workers), (
        "a worker has left"
    )
    since, rounds = time.monotonic(), count()
    groups = {worker.group for worker in worker_set.workers}

    def seen() -> bool:
        # Again and again: a worker that is quick may take all that there is.
        if arena.queue.stats().ready < 20:
            arena.send_surely(work(20, ms=5, prefix=f"after{next(rounds)}-"))
        arena.history.read()
        return groups <= {run.group for run in arena.history.runs if run.started > since}

    eventually(seen, within_s=10, what="every worker resumes")


def resumed_s(arena: Scene, since: Iterable[float]) -> float:
    """The longest time from one of these moments (monotonic seconds) to the next job that ends."""
    ends = sorted(run.finished for run in arena.history.read().runs if run.finished is not None)

    def resumed(at: float) -> float:
        after = bisect(ends, at)
        return ends[after] - at if after < len(ends) else 0.0

    return max(map(resumed, since), default=0.0)
