"""Jobs that take their own process along, among healthy ones: bounded, and paid for by nobody else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from celeriac.chaos.faults import Fault
from tests.chaos.arena import POOLS, Arena, Job, Pool, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale

MAX_DELIVERIES = 3
FAULT = "jobs that kill"
WAYS = ("kill", "exit", "segfault")


def _mix(arena: Arena, healthy: int) -> list[str]:
    """Send healthy jobs with one of each poison somewhere among them; return the poison's ids."""
    jobs = work(healthy, ms=lambda: arena.random.uniform(0, 1))
    poison = [Job(f"poison-{how}", "chaos.die", (how,)) for how in WAYS]
    for job in poison:
        jobs.insert(arena.random.randrange(len(jobs)), job)
    arena.send(jobs)
    return [job.id for job in poison]


def _note_suicides(arena: Arena, poison: list[str]) -> int:
    """Enter into the journal what the poison did to its neighbours."""
    runs = arena.history.read().runs
    suicides = [run for run in runs if run.job in poison]
    for pid in {run.pid for run in suicides}:
        # A busy machine lets neighbours work on between the poison's note and its deed.
        last = max(run.finished or run.started for run in runs if run.pid == pid)
        arena.journal.append(Fault(kind="kill", at=last, pid=pid))
    return len(suicides)


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_that_kills_its_worker_is_stopped_and_its_neighbours_are_unharmed(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    policy = {"deadLetter": {"maxDeliveries": MAX_DELIVERIES}}
    arena: Celeriac = celeriac_arena(policy=policy, takes_back=True)
    poison = _mix(arena, scale(1000, 10_000))
    arena.worker_set(pool, size=1, supervised=True)
    stats = arena.drained(within_s=300)
    dead = arena.dead()
    suicides = _note_suicides(arena, poison)
    verdict = arena.verdict(dead=dead, without=poison)
    runs = Counter(run.job for run in arena.history.runs if run.job in poison)
    note = f"stopped after {max(runs.values())} runs at most"
    report(row(FAULT, arena, pool, verdict, faults=suicides, note=note))

    assert set(dead) == set(poison), "the poison, and nothing else, lies in the dead letters"
    for job, letter in dead.items():
        assert letter.reason == "delivery_limit"
        assert letter.delivery == MAX_DELIVERIES
        assert letter.attempt == 0, "a death is no attempt"
        assert [line["reason"] for line in letter.history] == ["worker_lost"] * MAX_DELIVERIES
        assert 1 <= runs[job] <= MAX_DELIVERIES
    assert not verdict.lost
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert stats.done == verdict.jobs and stats.retried == 0


def test_stock_celery_runs_such_a_job_for_ever(stock_arena: Callable, report: Callable):
    arena = stock_arena()
    healthy = work(100)
    poison = Job("poison-kill", "chaos.die", ("kill",))
    worker_set = arena.worker_set("prefork", supervised=True)
    arena.send([*healthy[:50], poison, *healthy[50:]])
    seconds = scale(6, 20)
    time.sleep(seconds)
    worker_set.end()
    suicides = _note_suicides(arena, [poison.id])
    verdict = arena.verdict(without=[poison.id])
    note = f"ran {suicides} times in {seconds} s, and would go on"
    report(row(FAULT, arena, "prefork", verdict, faults=suicides, note=note))
    if suicides <= MAX_DELIVERIES:
        print(f"stock Celery ran it {suicides} times only")
