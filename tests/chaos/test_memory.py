"""Jobs that eat all memory, among healthy ones: their process is killed, or Python refuses them more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from celeriac.chaos.faults import Fault
from celeriac.chaos.processes import Command
from tests.chaos.arena import POOLS, Job, Pool, work
from tests.chaos.memory import Limit, after
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import LONG, scale

MAX_DELIVERIES = 3
ATTEMPTS = 2
#: Above what a worker with all its processes needs, in bytes.
MEMORY = 500_000_000
#: The address space of one process; threads reserve far more of it than they use. In kB.
ADDRESSES_KB = 1_600_000
POLICY = {
    "deadLetter": {"maxDeliveries": MAX_DELIVERIES},
    "retry": {"maxAttempts": ATTEMPTS, "backoff": {"initialSeconds": 0, "maxSeconds": 0}},
}


class Limited(Celeriac):
    """An arena whose workers are started in another way."""

    wrap: Callable[[Command], Command] = staticmethod(lambda command: command)

    def command(self, pool: Pool, *options: object) -> Command:
        return self.wrap(super().command(pool, *options))


@pytest.fixture
def limited_arena(_make: Callable) -> Callable[..., Limited]:
    return lambda **options: _make(Limited, policy=POLICY, takes_back=True, **options)


def _mix(arena: Celeriac, eaters: int, *, chunk_mb: int) -> list[str]:
    jobs = work(scale(1000, 10_000), ms=lambda: arena.random.uniform(0, 1))
    hungry = [Job(f"eat{n}", "chaos.eat", (chunk_mb,)) for n in range(eaters)]
    for job in hungry:
        jobs.insert(arena.random.randrange(len(jobs)), job)
    arena.send(jobs)
    return [job.id for job in hungry]


@pytest.mark.parametrize("pool", POOLS)
def test_the_kernel_kills_what_eats_all_memory_and_only_that_is_charged(
    pool: Pool, limited_arena: Callable[..., Limited], report: Callable
):
    arena = limited_arena()
    hungry = _mix(arena, scale(1, 5), chunk_mb=16)
    with Limit(MEMORY) as limit:
        arena.wrap = limit.wrap
        worker_set = arena.worker_set(pool, supervised=True)
        limit.watch(worker_set)
        stats = arena.drained(within_s=300)
        kills = limit.kills
    dead = arena.dead()
    eaten = [run for run in arena.history.read().runs if run.job in hungry]
    # Killed at some time within seconds, and started again sooner than within one; what the process
    # finished just before may not have been settled.
    arena.journal += [
        Fault(kind="kill", at=run.started + tenth / 10, pid=run.pid)
        for run in eaten
        for tenth in range(50)
    ]
    verdict = arena.verdict(dead=dead, without=hungry)
    runs = Counter(run.job for run in eaten)
    note = f"out of memory by {limit.kind}, {max(runs.values())} runs at most"
    report(row("child or worker out of memory", arena, pool, verdict, faults=kills, note=note))
    assert kills >= len(hungry), "nobody ran out of memory"
    assert set(dead) == set(hungry), "the eaters, and nothing else, lie in the dead letters"
    for job, letter in dead.items():
        assert (letter.reason, letter.delivery, letter.attempt) == (
            "delivery_limit",
            MAX_DELIVERIES,
            0,
        )
        assert 1 <= runs[job] <= MAX_DELIVERIES
    if pool == "prefork":
        assert not worker_set.ended, "the parent went with its child"
    assert not verdict.violations()
    assert stats.done == verdict.jobs


def _ulimit(command: Command) -> Command:
    return after(f"ulimit -v {ADDRESSES_KB}", command)


@pytest.mark.parametrize("pool", POOLS if LONG else ["threads"])
def test_a_refused_allocation_is_an_error_of_that_job_alone(
    pool: Pool, limited_arena: Callable[..., Limited], report: Callable
):
    arena = limited_arena()
    arena.wrap = _ulimit
    hungry = _mix(arena, scale(2, 10), chunk_mb=64)
    worker = arena.worker_set(pool).workers[0]
    stats = arena.drained(within_s=300)
    dead = arena.dead()
    verdict = arena.verdict(dead=dead, without=hungry)
    faults = sum(run.job in hungry for run in arena.history.runs)
    report(row("RLIMIT_AS", arena, pool, verdict, faults=faults, note="MemoryError, by policy"))
    assert worker.code is None, worker.log
    assert set(dead) == set(hungry)
    for letter in dead.values():
        assert (letter.reason, letter.error) == ("attempts_exhausted", "MemoryError")
        assert letter.attempt == letter.delivery == ATTEMPTS
    assert not verdict.violations() and not verdict.repeats
    assert stats.done == verdict.jobs and stats.redelivered == 0
