"""First in, first out within a priority, with one consumer at a time that is killed now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from celeriac.worker.prefetch import LARGEST
from tests.chaos.arena import Job, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale


def _mixed(arena: Celeriac, number: int, prefix: str) -> list[Job]:
    jobs = work(number, ms=lambda: arena.random.uniform(0, 1), prefix=prefix)
    return [replace(job, priority=arena.random.choice(["high", "normal", "low"])) for job in jobs]


def test_without_a_fault_not_one_job_overtakes_another_of_its_priority(
    celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    arena.worker_set("solo")
    for batch in range(5):  # it works while more comes in
        arena.send(_mixed(arena, scale(400, 2_000), f"{batch}-"))
    arena.drained(within_s=300)
    verdict = arena.verdict(ordered=True)
    report(row("none: order", arena, "solo", verdict, faults=0, note="0 out of order"))
    assert set(arena.priorities.values()) == {"high", "low"}
    assert not verdict.violations()
    assert verdict.jobs == len(arena.history.runs)


def test_a_killed_consumer_displaces_no_more_than_it_held(
    celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    kills = scale(3, 15)
    arena.send(_mixed(arena, scale(2_000, 10_000), "mixed"))
    with arena.loaded(100, ms=lambda: arena.random.uniform(0, 1)):
        worker_set = arena.worker_set("solo", supervised=True)
        for _ in range(kills):
            arena.kill(arena.catch_busy(worker_set))
    arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead(), ordered=True)
    displaced = verdict.out_of_order()
    note = f"{displaced} out of order, at most {kills * (1 + LARGEST)} allowed"
    report(row("worker SIGKILL: order", arena, "solo", verdict, faults=kills, note=note))
    assert verdict.repeats or displaced, "no kill struck a worker with work in hand"
    assert not verdict.violations(displaced=kills * (1 + LARGEST))
