"""A worker is frozen while it waits for work; jobs arrive; it is killed. Who has the jobs?

Stock Celery waits in BRPOP: the broker hands the next message to the frozen worker, and forgets it. Our
workers wait for a mere hint that there is work, and what they claim stays on record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from signal import SIGSTOP

import pytest

from celeriac.chaos.processes import Worker, WorkerSet, eventually
from tests.chaos.arena import POOLS, STOCK_POOLS, Arena, Pool, work
from tests.chaos.report import row
from tests.chaos.settings import scale

JOBS = scale(20, 500)
FAULT = "freeze, push, kill"


def _trial(arena: Arena, worker_set: WorkerSet, worker: Worker, number: int) -> Worker:
    """Freeze and kill one worker, and return the next one."""
    probe = work(1, prefix=f"probe{number}-")
    arena.send(probe)
    eventually(lambda: arena.finished([probe[0].id]), within_s=20, what="the worker works")
    time.sleep(arena.random.uniform(0.1, 1.3))  # anywhere in its cycle of waiting
    worker.signal_all(SIGSTOP)
    jobs = work(JOBS, prefix=f"t{number}-")
    arena.send(jobs)
    time.sleep(arena.random.uniform(0, 0.2))
    assert not arena.history.read().finished & {job.id for job in jobs}, "it was not frozen"
    arena.kill(worker)
    worker_set.remove(worker)
    return worker_set.add().wait_ready()


def _trials(arena: Arena, pool: Pool, count: int) -> None:
    worker_set = arena.worker_set(pool)
    worker = worker_set.workers[0]
    for number in range(count):
        worker = _trial(arena, worker_set, worker, number)


def _recovery_s(arena: Arena) -> float:
    """The longest time from a kill to the start of a job that had been pushed before."""
    starts: dict[str, float] = {}
    for run in arena.history.runs:
        trial = run.job.partition("-")[0]
        starts[trial] = max(run.started, starts.get(trial, 0.0))
    return max(
        starts.get(f"t{number}", fault.at) - fault.at for number, fault in enumerate(arena.journal)
    )


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_frozen_and_killed_while_idle_takes_no_job_along(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena = celeriac_arena()
    trials = scale(3, 20)
    _trials(arena, pool, trials)
    stats = arena.drained()
    verdict = arena.verdict()
    report(row(FAULT, arena, pool, verdict, faults=trials, recovery_s=_recovery_s(arena)))
    assert not verdict.lost
    assert not verdict.unexplained
    assert stats.done == verdict.jobs == trials * (JOBS + 1)


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_loses_jobs_to_it(pool: Pool, stock_arena: Callable, report: Callable):
    arena = stock_arena()
    trials = scale(3, 20)
    _trials(arena, pool, trials)
    arena.drained()
    verdict = arena.verdict()
    note = "" if verdict.lost else "lost nothing this time"
    report(
        row(FAULT, arena, pool, verdict, faults=trials, recovery_s=_recovery_s(arena), note=note)
    )
