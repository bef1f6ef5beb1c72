"""A worker is frozen in the midst of its work until its leases have run out, and wakes up again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, SLOTS, Pool, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row

LONG_MS = 1500


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_wakes_up_too_late_is_refused(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    frozen = arena.fleet(pool).workers[0]
    arena.send(work(500, prefix="warm"))  # tasks are short: the worker claims many at once
    arena.drained()
    slow = {job.id for job in work(SLOTS[pool], prefix="slow")}
    jobs = work(SLOTS[pool], ms=LONG_MS, prefix="slow") + work(30, prefix="quick")
    arena.send(jobs)
    eventually(lambda: slow & {run.job for run in arena.history.read().runs}, within_s=5)
    time.sleep(0.1)  # quick ones wait behind slow ones, and are not handed back yet
    with arena.frozen(frozen):
        caught = [run for run in arena.history.read().runs if run.finished is None]
        assert caught, "nothing ran when it was frozen"
        arena.fleet(pool)
        eventually(lambda: arena.finished(arena.accepted), within_s=20, what="a healthy worker")
        stats = arena.drained()
    eventually(
        lambda: arena.history.read() and all(run.finished for run in arena.history.runs),
        within_s=10,
        what="the frozen worker finishes what it ran",
    )
    refused = "finished after its lease was lost"
    eventually(lambda: arena.logs(refused) >= len(caught), within_s=5, what="late settling refused")
    assert arena.logs(refused) == len(caught)
    verdict = arena.verdict()
    note = f"{len(caught)} late settlings refused"
    report(row("frozen past its lease", arena, pool, verdict, faults=1, note=note))
    after = arena.drained()
    assert after.done == stats.done == verdict.jobs
    assert not verdict.lost and not verdict.unexplained
    assert {repeat.run.job for repeat in verdict.repeats} == {run.job for run in caught}
    assert after.redelivered >= len(caught)

    # It has found back: it takes its share.
    arena.send(work(40 * SLOTS[pool], ms=20, prefix="after"))
    arena.drained()
    assert {run.group for run in arena.history.read().runs if run.job.startswith("after")} >= {
        frozen.group
    }
