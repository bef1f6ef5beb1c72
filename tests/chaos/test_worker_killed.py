"""Workers are killed again and again while they work; a supervisor starts others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.chaos.arena import POOLS, SLOTS, STOCK_POOLS, Arena, Pool
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale

WORKERS = 2
FAULT = "worker SIGKILL"


def _storm(arena: Arena, pool: Pool, *, jobs: int, kills: int) -> None:
    """Kill workers in the midst of ``jobs`` jobs or more, ``kills`` times."""
    ms = 500 * kills * WORKERS * SLOTS[pool] / jobs
    with arena.loaded(jobs, ms=lambda: arena.random.uniform(0, 2 * ms)):
        worker_set = arena.worker_set(pool, size=WORKERS, supervised=True)
        for _ in range(kills):
            victim = arena.catch_busy(worker_set)
            time.sleep(arena.random.uniform(0, 0.05))
            # The kernel's OOM killer takes one process; a container's end takes all.
            arena.kill(victim, parent_only=arena.random.random() < 0.5)
            time.sleep(arena.random.uniform(0, 0.4))


@pytest.mark.parametrize("pool", POOLS)
def test_workers_killed_under_load_lose_nothing(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    kills = scale(5, 50)
    _storm(arena, pool, jobs=scale(10_000, 20_000), kills=kills)
    stats = arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead())
    report(row(FAULT, arena, pool, verdict, faults=kills, note=verdict.why))
    assert not verdict.lost
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert not verdict.dead, "a healthy job paid for its neighbours"
    assert verdict.repeats, "no kill struck a worker with work in hand"
    assert stats.done == verdict.jobs


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(pool: Pool, stock_arena: Callable, report: Callable):
    arena = stock_arena()
    kills = scale(5, 50)
    _storm(arena, pool, jobs=scale(2_000, 10_000), kills=kills)
    arena.drained()
    verdict = arena.verdict()
    report(row(FAULT, arena, pool, verdict, faults=kills, note=verdict.why))
