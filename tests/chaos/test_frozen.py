"""A worker is frozen in the midst of its work until its leases have run out, and wakes up again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from celeriac.chaos.processes import Worker, eventually
from celeriac.chaos.sidefile import Run
from tests.chaos.arena import POOLS, SLOTS, STOCK_POOLS, Job, Pool, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale
from tests.chaos.stock import Stock

FAULT = "frozen past its lease"
STEPS, STEP_MS = 15, 100
REFUSED = "finished after its lease was lost"
TAKEN = "its lease was lost while it ran"
#: What it says in pools that stop such runs: a child is killed, a coroutine cancelled.
STOPPED = {
    "prefork": "is ended: its lease is lost",
    "asyncio": "so that it runs elsewhere: it is stopped",
}
WARM = scale(500, 2_000)


def _slow(pool: Pool, number: int) -> list[Job]:
    return [Job(f"slow{number}-{n}", "chaos.steps", (STEPS, STEP_MS)) for n in range(SLOTS[pool])]


def _freeze(arena: Celeriac | Stock, pool: Pool, frozen: Worker, number: int) -> list[Run]:
    """Freeze a worker until another one has done all that it held, and return what ran in it."""
    arena.send(work(WARM, prefix=f"warm{number}-"))  # short ones: the worker claims many at once
    arena.drained(within_s=60)
    jobs = _slow(pool, number)
    slow = {job.id for job in jobs}
    arena.send(jobs + work(30, prefix=f"quick{number}-"))
    eventually(lambda: slow & {run.job for run in arena.history.read().runs}, within_s=5)
    time.sleep(0.1)  # quick ones wait behind slow ones, and are not handed back yet
    with arena.frozen(frozen):
        runs = arena.history.read().runs
        caught = [run for run in runs if run.finished is None and run.job in slow]
        assert caught, "nothing ran when it was frozen"
        healthy = arena.worker_set(pool)
        eventually(lambda: arena.finished(arena.accepted), within_s=20, what="a healthy worker")
        arena.drained()
        healthy.drain()
    return caught


def _wakes_up(arena: Celeriac, pool: Pool, caught: list[Run]) -> str:
    """See what becomes of all runs that a worker was frozen in; return that for the table."""
    eventually(lambda: arena.logs(TAKEN) >= len(caught), within_s=10, what="it hears of its loss")
    if pool in STOPPED:
        # Ended before they go on doing what is done elsewhere.
        text = STOPPED[pool]
        eventually(lambda: arena.logs(text) >= len(caught), within_s=5, what="they are stopped")
        time.sleep(STEPS * STEP_MS / 1000)
        arena.history.read()
        assert not any(run.finished for run in caught), "it went on to the end"
        return f"{len(caught)} runs stopped"
    eventually(
        lambda: arena.history.read() and all(run.finished for run in arena.history.runs),
        within_s=10,
        what="the frozen worker finishes what it ran",
    )
    eventually(lambda: arena.logs(REFUSED) >= len(caught), within_s=5, what="late settling refused")
    assert arena.logs(REFUSED) == len(caught)
    return f"{len(caught)} late settlings refused"


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_wakes_up_too_late_is_refused(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    frozen = arena.worker_set(pool).workers[0]
    rounds = scale(1, 5)
    caught: list[Run] = []
    for number in range(rounds):
        caught += _freeze(arena, pool, frozen, number)
        note = _wakes_up(arena, pool, caught)
        assert arena.queue.stats().done == len(arena.accepted), "a late settling was counted"
    stats = arena.drained()
    verdict = arena.verdict()
    report(row(FAULT, arena, pool, verdict, faults=rounds, note=note))
    assert not verdict.violations()
    assert {repeat.run.job for repeat in verdict.repeats} == {run.job for run in caught}
    assert stats.redelivered >= len(caught)

    # It has found back: it takes its share.
    arena.send(work(40 * SLOTS[pool], ms=20, prefix="after"))
    arena.drained()
    assert {run.group for run in arena.history.read().runs if run.job.startswith("after")} >= {
        frozen.group
    }


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(pool: Pool, stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena()
    frozen = arena.worker_set(pool).workers[0]
    rounds = 5
    for number in range(rounds):
        _freeze(arena, pool, frozen, number)
        eventually(
            lambda: all(run.finished for run in arena.history.read().runs),
            within_s=20,
            what="the frozen worker finishes what it ran",
        )
    report(row(FAULT, arena, pool, arena.verdict(), faults=rounds))
