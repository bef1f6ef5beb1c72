"""Workers are killed again and again while they work; a supervisor starts others in their place."""

from __future__ import annotations

from collections.abc import Callable
import time

import pytest

from tests.chaos.arena import POOLS, SLOTS, Arena, Pool, work
from tests.chaos.report import Row

WORKERS = 2


def _storm(arena: Arena, pool: Pool, *, jobs: int, kills: int) -> None:
    """Kill workers in the midst of ``jobs`` jobs, ``kills`` times."""
    # Long enough, in all, for every kill to find a worker at work.
    ms = 1000 * kills * 0.9 * WORKERS * SLOTS[pool] / jobs
    arena.send(work(jobs, ms=lambda: arena.random.uniform(0, 2 * ms)))
    fleet = arena.fleet(pool, size=WORKERS, supervised=True)
    for _ in range(kills):
        victim = arena.catch_busy(fleet)
        time.sleep(arena.random.uniform(0, 0.05))
        # The kernel's OOM killer takes one process; a container's end takes all.
        arena.kill(victim, parent_only=arena.random.random() < 0.5)
        time.sleep(arena.random.uniform(0, 0.4))


@pytest.mark.parametrize("pool", POOLS)
def test_workers_killed_under_load_lose_nothing(
    pool: Pool, celeriac_arena: Callable, scale: Callable, report: Callable
):
    arena = celeriac_arena()
    kills = scale(8, 100)
    _storm(arena, pool, jobs=scale(10_000, 100_000), kills=kills)
    stats = arena.drained(within_s=60)
    verdict = arena.verdict(dead=arena.dead())
    report(Row.of(verdict, fault="worker SIGKILL", system="celeriac", pool=pool, faults=kills, note=str(verdict.reasons)))
    assert not verdict.lost
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert not verdict.dead, "a healthy job paid for its neighbours"
    assert stats.done == verdict.jobs


@pytest.mark.parametrize("pool", ["solo"])
def test_stock_celery_beside_it(
    pool: Pool, stock_arena: Callable, scale: Callable, report: Callable
):
    arena = stock_arena()
    kills = scale(8, 100)
    _storm(arena, pool, jobs=scale(4_000, 100_000), kills=kills)
    arena.drained()
    verdict = arena.verdict()
    report(Row.of(verdict, fault="worker SIGKILL", system="stock", pool=pool, faults=kills, note=str(verdict.reasons)))
