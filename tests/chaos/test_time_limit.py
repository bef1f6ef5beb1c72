"""Jobs that never end, among healthy ones, in a pool that keeps a hard time limit."""

from __future__ import annotations

from collections.abc import Callable

from celeriac.chaos.faults import Fault
from tests.chaos.arena import Job, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale

LIMIT_S = 1
ATTEMPTS = 2
#: Asleep, in a loop, and in C code that keeps every other thread of the process from running.
WAYS = ("sleep", "loop", "c")


def test_a_hard_time_limit_ends_what_hangs_and_nothing_else(
    celeriac_arena: Callable, report: Callable
):
    backoff = {"initialSeconds": 0, "maxSeconds": 0}
    arena: Celeriac = celeriac_arena(
        policy={"retry": {"maxAttempts": ATTEMPTS, "backoff": backoff}}
    )
    jobs = work(scale(1000, 10_000), ms=lambda: arena.random.uniform(0, 1))
    hanging = {f"hang-{how}" for how in WAYS}
    for how in WAYS:
        jobs.insert(arena.random.randrange(len(jobs)), Job(f"hang-{how}", "chaos.hang", (how,)))
    arena.send(jobs)
    worker = arena.worker_set("prefork", "--timeout", LIMIT_S).workers[0]
    stats = arena.drained(within_s=300)
    dead = arena.dead()
    # What a child had finished but not settled when it began to hang goes with it.
    runs = [run for run in arena.history.read().runs if run.job in hanging]
    arena.journal += [Fault(kind="kill", at=run.started, pid=run.pid) for run in runs]
    verdict = arena.verdict(dead=dead, without=hanging)
    report(row("jobs that hang", arena, "prefork", verdict, faults=len(runs)))
    assert worker.code is None
    assert set(dead) == hanging
    for letter in dead.values():
        assert letter.reason == "attempts_exhausted"
        assert letter.attempt == ATTEMPTS
        assert [line["reason"] for line in letter.history] == ["hard_time_limit"] * ATTEMPTS
        assert letter.error == "TimeLimitExceeded"
    assert len(runs) == len(WAYS) * ATTEMPTS
    assert not verdict.lost
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert stats.done == verdict.jobs
    assert stats.redelivered == 0, "a neighbour was charged for it"
