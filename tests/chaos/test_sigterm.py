"""Deploys, one after the other, under load: each worker is told to stop, and nobody notices."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from celeriac.chaos.processes import Worker, WorkerSet
from tests.chaos.arena import POOLS, STOCK_POOLS, Arena, Pool
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale
from tests.chaos.stock import Stock

FAULT = "SIGTERM, deploy-like"
WORKERS = 2
LONGEST_MS = 300


def _roll(arena: Arena, worker_set: WorkerSet) -> tuple[float, str]:
    """Start a worker, and stop one that is at work: how long that took (s), and what was wrong with it."""
    fresh = worker_set.add()
    if arena.random.random() < 0.25:
        # A deploy that is taken back at once: the new worker is stopped at any point of its start.
        time.sleep(arena.random.uniform(0, 0.6))
        worker_set.remove(fresh)
        return _stop(fresh, within_s=5, codes=(0, -signal.SIGTERM))
    fresh.wait_ready()
    old = arena.catch_busy(worker_set)
    while old is fresh:
        old = arena.catch_busy(worker_set)
    worker_set.remove(old)
    return _stop(old, within_s=LONGEST_MS / 1000 + 5, codes=(0,))


def _stop(worker: Worker, *, within_s: float, codes: tuple[int, ...]) -> tuple[float, str]:
    started = time.monotonic()
    worker.terminate()
    try:
        code = worker.wait(within_s)
    except subprocess.TimeoutExpired:
        worker.kill()
        code = worker.wait(5)
    wrong = "" if code in codes else f"ended with {code}: {worker.log}"
    return time.monotonic() - started, wrong


def _deploys(arena: Arena, pool: Pool, *, jobs: int, rounds: int) -> tuple[str, list[str]]:
    """Deploy again and again under load: a note, and what was wrong with workers that left."""

    def length() -> float:
        return arena.random.choice([0, 0, 1, 1, 1, 2, 2, 5, 5, 20, LONGEST_MS])

    with arena.loaded(jobs, ms=length):
        worker_set = arena.worker_set(pool, size=WORKERS)
        ends = [_roll(arena, worker_set) for _ in range(rounds)]
        while len(worker_set.serving) < WORKERS:
            worker_set.add().wait_ready()
    wrong = [trouble for _, trouble in ends if trouble]
    note = (
        f"slowest exit {max(ends)[0]:.1f} s, {len(wrong)} had to be killed or ended with an error"
    )
    return note, wrong


@pytest.mark.parametrize("pool", POOLS)
def test_a_storm_of_deploys_costs_nobody_a_delivery(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    rounds = scale(4, 25)
    note, wrong = _deploys(arena, pool, jobs=scale(100, 10_000), rounds=rounds)
    stats = arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead())
    report(row(FAULT, arena, pool, verdict, faults=rounds, note=note))
    assert not wrong, wrong[0]
    assert not verdict.lost and not verdict.dead
    assert not verdict.repeats, verdict.reasons
    assert all(run.finished is not None for run in arena.history.runs), "a running task was cut off"
    assert stats.done == verdict.jobs
    assert stats.redelivered == 0


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(pool: Pool, stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena()
    rounds = 25
    note, _ = _deploys(arena, pool, jobs=10_000, rounds=rounds)
    arena.drained(within_s=300)
    report(row(FAULT, arena, pool, arena.verdict(), faults=rounds, note=note))
