"""Jobs that hang in C code, and hold the interpreter, in pools that keep no time limit.

Their worker is silent for longer than its lease, as if it were frozen: what it holds goes to others, and the
job that hangs is stopped by the limit of deliveries. The worker stays hung; a liveness probe would end it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celeriac.chaos.faults import Fault
from tests.chaos.arena import Job, Pool, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale

MAX_DELIVERIES = 2
HANG_S = 60


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_job_that_hangs_in_c_takes_no_neighbour_along(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(policy={"deadLetter": {"maxDeliveries": MAX_DELIVERIES}})
    jobs = work(scale(1000, 10_000), ms=lambda: arena.random.uniform(0, 1))
    jobs.insert(arena.random.randrange(len(jobs)), Job("hang", "chaos.hang", ("c", HANG_S)))
    arena.send(jobs)
    worker_set = arena.worker_set(pool, size=MAX_DELIVERIES + 1)
    stats = arena.drained(within_s=300)
    dead = arena.dead()
    hung = arena.history.read().of("hang")
    arena.journal += [
        Fault(kind="freeze", at=run.started, until=run.started + HANG_S, group=run.group)
        for run in hung
    ]
    verdict = arena.verdict(dead=dead, without={"hang"})
    report(row("hang in C, no time limit", arena, pool, verdict, faults=len(hung)))
    assert len(hung) == MAX_DELIVERIES == len({run.pid for run in hung})
    assert not any(run.finished for run in hung), "it did not hang"
    assert set(dead) == {"hang"}
    letter = dead["hang"]
    assert (letter.reason, letter.attempt) == ("delivery_limit", 0)
    assert [line["reason"] for line in letter.history] == ["lease_expired"] * MAX_DELIVERIES
    assert not verdict.violations()
    assert stats.done == verdict.jobs
    assert [worker.code for worker in worker_set.workers] == [None] * (MAX_DELIVERIES + 1)
