"""A Redis Cluster under load: slots move, and a primary dies and is replaced by its replica."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, Pool
from tests.chaos.clustered import Clustered
from tests.chaos.load import feeding
from tests.chaos.report import row
from tests.chaos.servers import Kind, servers
from tests.chaos.settings import LONG, scale
from tests.programs import program


def _harm(arena: Clustered, rounds: int) -> None:
    """Move slots and kill a primary, again and again, while workers work and producers publish."""
    names = list(arena.queues)
    for _ in range(rounds):
        eventually(partial(arena.ended_since, time.monotonic()), within_s=30, what="work goes on")
        for name in arena.random.sample(names, 3):
            arena.move(name)
            time.sleep(arena.random.uniform(0, 0.3))
        victim = arena.fail_over(arena.random.choice(names))
        victim.start()
        arena.cluster.wait_healthy()
        assert not victim.is_primary


def _all_resume(arena: Clustered) -> None:
    """Every worker that was there in the beginning serves again."""
    workers = [worker for worker_set in arena.worker_sets for worker in worker_set.workers]
    assert [worker.code for worker in workers] == [None] * len(workers), "a worker has left"
    since, groups = time.monotonic(), {worker.group for worker in workers}
    for name in arena.queues:
        arena.send_surely(arena.jobs(20, name, prefix="after"))

    def seen() -> bool:
        runs = arena.history.read().runs
        return groups <= {run.group for run in runs if run.started > since}

    eventually(seen, within_s=20, what="every worker resumes")


@pytest.mark.parametrize("pool", POOLS if LONG else ["threads"])
@pytest.mark.parametrize("kind", servers())
def test_slots_move_and_primaries_die(
    kind: Kind, pool: Pool, clustered_arena: Callable, report: Callable
):
    arena: Clustered = clustered_arena(binary=kind.binary())
    for name in arena.queues:
        arena.worker_set(pool, "-Q", name)
    rounds, each = scale(1, 8), scale(500, 5_000)
    with ExitStack() as stack:
        for name in arena.queues:
            jobs = arena.jobs(each, name, ms=lambda: arena.random.choice([0, 0, 1, 5]))
            stack.enter_context(feeding(arena, jobs, seconds=scale(5, 120)))
        _harm(arena, rounds)
    _all_resume(arena)
    eventually(lambda: not arena.waiting(), within_s=60, what=lambda: f"{arena.waiting()} wait")
    verdict = arena.verdict()
    known, oldest_s = arena.forgotten(verdict.lost)
    stats = arena.drained(within_s=60, lost=bool(verdict.lost))
    note = f"{kind.name}; {arena.moves} slots moved; {verdict.why or 'nothing ran twice'}"
    if verdict.lost:
        note += f"; the oldest lost job was {oldest_s * 1000:.0f} ms old"
    faults = len(arena.journal)
    report(
        row(
            "cluster: slots, failover",
            arena,
            pool,
            verdict,
            faults=faults,
            recovery_s=arena.recovery_s(),
            note=note,
        )
    )
    assert (faults, arena.moves) == (rounds, 3 * rounds)
    assert not known, f"a replica had {known[:5]}, and they are lost"
    assert not verdict.dead and not verdict.strangers
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert sum(one.done for one in stats.values()) + len(verdict.lost) >= verdict.jobs
    assert sum(one.redelivered for one in stats.values()) == 0, "no worker has died"
    assert arena.logs("holding what is leased") >= 1, "no worker noticed"


@pytest.mark.parametrize("guard", ["none", "min-replicas-to-write", "wait_replicas"])
def test_what_no_replica_had_is_lost_unless_it_must_have_it(
    guard: str, clustered_arena: Callable, report: Callable
):
    """A replica's link is cut, its primary goes on alone, and dies: its last words are lost, and counted."""
    arena: Clustered = clustered_arena(
        binary=program("embedded"),
        options=("--min-replicas-to-write", "1") if guard == "min-replicas-to-write" else (),
        query="?wait_replicas=1&wait_timeout=0.05" if guard == "wait_replicas" else "",
    )
    names = list(arena.queues)[:2]  # which lie on one node
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(feeding(arena, arena.jobs(400, name), seconds=2))
        time.sleep(0.5)
        with arena.cut_off(names[0]):
            time.sleep(0.7)
            victim = arena.fail_over(names[0])
        victim.start()
        arena.cluster.wait_healthy()
    for name in names:
        arena.worker_set("threads", "-Q", name)
    eventually(lambda: not arena.waiting(), within_s=60, what=lambda: f"{arena.waiting()} wait")
    verdict = arena.verdict()
    known, oldest_s = arena.forgotten(verdict.lost)
    arena.drained(within_s=60, lost=guard != "min-replicas-to-write")
    note = f"{arena.refusals} sends refused, {arena.doubts} messages in doubt"
    if verdict.lost:
        note += f"; the oldest lost job was {oldest_s:.1f} s old"
    report(row(f"cluster: replica cut, {guard}", arena, "threads", verdict, faults=1, note=note))
    assert not known, f"a replica had {known[:5]}, and they are lost"
    assert not verdict.strangers and not verdict.unexplained
    assert bool(verdict.lost) is (guard == "none")
    assert bool(arena.refusals) is (guard == "min-replicas-to-write")
    assert bool(arena.doubts) is (guard == "wait_replicas")
