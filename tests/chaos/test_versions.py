"""Workers of one release on the data of another: an older queue is served, a newer one is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, Pool, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale

#: What the record of the first release lacks.
LATER = (
    "layout",
    "maxDeliveries",
    "isolateAfter",
    "deadMessages",
    "maxMessages",
    "maxMessageBytes",
)


@pytest.mark.parametrize("pool", POOLS)
def test_a_queue_changes_hands_between_releases_under_load(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    rounds = scale(1, 5)
    redis, record = arena.queue.client, arena.queue.keys.record
    redis.hdel(record, *LATER)  # older than the worker
    worker = arena.worker_set(pool).workers[0]
    for number in range(rounds):
        arena.send(work(2_000, ms=lambda: arena.random.uniform(0, 1), prefix=f"r{number}-"))
        arena.catch_busy(arena.worker_sets[0])
        redis.hset(record, "layout", "2")  # a newer release takes over
        eventually(lambda: not arena.queue.stats().leased, within_s=10, what="what it holds ends")
        left = arena.queue.stats().ready
        assert left > 0, "it was done before"
        time.sleep(1)
        assert arena.queue.stats().ready == left, "it took what it may not understand"
        assert worker.code is None, worker.log
        redis.hset(record, "layout", "1")  # and is taken back
    stats = arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead())
    report(row("newer and older release", arena, pool, verdict, faults=rounds))
    assert arena.logs("the data layout 2, and this release knows 1 at most"), "it did not say so"
    assert not verdict.violations() and not verdict.repeats
    assert stats.done == verdict.jobs and stats.redelivered == 0
