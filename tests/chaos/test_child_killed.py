"""Children of a prefork worker are killed under load, as the kernel's OOM killer does."""

from __future__ import annotations

import time
from collections.abc import Callable

from celeriac.chaos.processes import Worker
from tests.chaos.arena import Arena
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale
from tests.chaos.stock import Stock

FAULT = "child SIGKILL"


def _kill_children(arena: Arena, worker: Worker, kills: int) -> None:
    for _ in range(kills):
        child = arena.busy_child(worker)
        time.sleep(arena.random.uniform(0, 0.02))
        arena.kill_process(child)


def test_only_what_a_killed_child_ran_is_charged(celeriac_arena: Callable, report: Callable):
    arena: Celeriac = celeriac_arena()
    kills = scale(15, 100)
    worker = arena.worker_set("prefork").workers[0]
    with arena.loaded(scale(10_000, 20_000), ms=lambda: arena.random.uniform(0, 0.8)):
        _kill_children(arena, worker, kills)
    stats = arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead())
    note = f"{stats.redelivered} deliveries charged"
    report(row(FAULT, arena, "prefork", verdict, faults=kills, note=note))
    assert worker.code is None, worker.log
    assert not verdict.lost and not verdict.dead
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert stats.done == verdict.jobs
    assert 1 <= stats.redelivered <= kills

    last = {run.pid: run.job for run in sorted(arena.history.runs, key=lambda run: run.started)}
    killed = {last[fault.pid] for fault in arena.journal if fault.pid in last}
    charged = {run.job for run in arena.history.runs if run.delivery > 1}
    assert len(charged) <= kills
    for job in charged - killed:
        first = min(arena.history.of(job), key=lambda run: run.started)
        assert first.delivery > 1, "a message paid that did not run in a killed child"
        # Otherwise it was about to: its task had not noted its start yet.


def test_stock_celery_beside_it(stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena()
    worker = arena.worker_set("prefork").workers[0]
    with arena.loaded(10_000, ms=lambda: arena.random.uniform(0, 0.8)):
        _kill_children(arena, worker, 100)
    arena.drained()
    verdict = arena.verdict()
    report(row(FAULT, arena, "prefork", verdict, faults=100, note=verdict.why))
