"""The network between workers, producers and the broker: cut, silent, slow, and full of resets."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest

from celeriac import Client
from celeriac.chaos.faults import Fault
from celeriac.chaos.processes import Worker, eventually
from tests.chaos.arena import LEASE_S, POOLS, SLOTS, STOCK_POOLS, Arena, Pool, work
from tests.chaos.load import all_resume, feeding, resumed_s
from tests.chaos.ours import Celeriac
from tests.chaos.proxy import Proxy
from tests.chaos.report import row, stock_row
from tests.chaos.settings import LONG, scale
from tests.chaos.stock import Stock

WORKERS = 2
#: A worker gives up a silent broker after this (worker/main.py).
SILENCE_S = 10.0


def network(arena: Arena) -> Proxy:
    assert arena.proxy is not None
    return arena.proxy


def _cut_often(arena: Arena, cuts: int) -> list[float]:
    """Cut all connections while workers work; return when each cut was over."""
    ends = []
    for _ in range(cuts):
        eventually(partial(arena.ended_since, time.monotonic()), within_s=20, what="work goes on")
        time.sleep(arena.random.uniform(0, 0.3))
        with network(arena).cut():
            time.sleep(arena.random.uniform(0, 0.4))
        ends.append(time.monotonic())
    return ends


@pytest.mark.parametrize("pool", POOLS)
def test_connections_that_are_cut_cost_nothing(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(proxied=True)
    worker_set = arena.worker_set(pool, size=WORKERS)
    cuts = scale(4, 60)
    jobs = work(scale(3_000, 20_000), ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=0.6 * cuts):
        ends = _cut_often(arena, cuts)
    all_resume(arena, worker_set)
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    note = f"{arena.logs('holding what is leased')} times a worker noticed"
    recovery_s = resumed_s(arena, ends)
    report(
        row("connection cut", arena, pool, verdict, faults=cuts, recovery_s=recovery_s, note=note)
    )
    assert arena.logs("holding what is leased") >= cuts, "nobody noticed"
    assert not verdict.lost and not verdict.dead and not verdict.strangers
    assert not verdict.repeats, verdict.reasons
    assert stats.done == verdict.jobs and stats.redelivered == 0


@pytest.mark.parametrize("pool", POOLS)
def test_one_percent_of_resets_costs_nothing(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(proxied=True)
    worker_set = arena.worker_set(pool, size=WORKERS)
    network(arena).reset_chance = 0.01
    jobs = work(scale(3_000, 30_000), ms=lambda: arena.random.choice([0, 1, 1, 5]))
    with feeding(arena, jobs, seconds=scale(2, 60)):
        pass
    stats = arena.drained(within_s=120)
    resets, network(arena).reset_chance = network(arena).resets, 0.0
    all_resume(arena, worker_set)
    arena.drained()
    verdict = arena.verdict(dead=arena.dead())
    report(row("1 % resets", arena, pool, verdict, faults=resets))
    assert resets > 3
    assert not verdict.lost and not verdict.dead and not verdict.strangers
    assert not verdict.repeats, verdict.reasons
    assert stats.redelivered == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_far_away_broker_slows_nobody_who_need_not_ask(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(proxied=True)
    arena.worker_set(pool, size=WORKERS)
    network(arena).delay_s = 0.15  # there, and back again
    jobs = work(scale(600, 20_000))
    started = time.monotonic()
    for at in range(0, len(jobs), 200):
        arena.send_surely(jobs[at : at + 200])
    stats = arena.drained(within_s=600)
    rate = len(jobs) / (time.monotonic() - started)
    verdict = arena.verdict(dead=arena.dead())
    note = f"{rate:.0f} jobs/s; one at a time would be {WORKERS * SLOTS[pool] / 0.3:.0f}"
    report(row("300 ms latency", arena, pool, verdict, faults=1, note=note))
    assert not verdict.lost and not verdict.dead and not verdict.repeats
    assert stats.redelivered == 0, "a lease ran out"
    assert not arena.logs("lost its lease")


@pytest.mark.parametrize(
    "forget", [False, True] if LONG else [False], ids=lambda it: f"forget={it}"
)
@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_in_a_black_hole_is_replaced_and_found_out(
    pool: Pool, forget: bool, celeriac_arena: Callable, report: Callable
):
    """Half of the workers hear nothing for longer than a lease; the others have another way."""
    arena: Celeriac = celeriac_arena(proxied=True)
    lamed = arena.worker_set(pool).workers[0]
    other = arena.worker_set(pool, "--broker", arena.server.url).workers[0]
    arena.client.close()
    arena.client = Client(arena.server.url)
    with feeding(arena, work(scale(100 + 80 * SLOTS[pool], 12_000), ms=20), seconds=scale(3, 60)):
        eventually(lambda: arena.history.read().busy(lamed.group), within_s=10, what="it works")
        at = time.monotonic()
        with network(arena).swallowing(forget=forget):
            time.sleep(LEASE_S + 1)
        until = time.monotonic()
    arena.journal.append(Fault(kind="cut", at=at, until=until, group=lamed.group))
    arena.drained(within_s=scale(60, 300))
    back_s = _back_at_work(arena, lamed, within_s=SILENCE_S + 10)
    stats = arena.drained()
    verdict = arena.verdict(dead=arena.dead())
    name = "black hole" + (", connections forgotten" if forget else "")
    note = f"back at work {back_s:.1f} s after"
    report(row(name, arena, pool, verdict, faults=1, note=note))
    assert other.code is None and lamed.code is None
    assert not verdict.lost and not verdict.dead
    assert stats.redelivered >= 1, "nobody took over"
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert stats.done == verdict.jobs


def _back_at_work(arena: Celeriac, worker: Worker, *, within_s: float) -> float:
    """Wait until a worker takes its share again; return how long that took (seconds)."""
    since, rounds = time.monotonic(), count()

    def seen() -> bool:
        if arena.queue.stats().ready < 20:
            arena.send_surely(work(50, ms=20, prefix=f"share{next(rounds)}-"))
        runs = arena.history.read().runs
        return any(run.group == worker.group and run.started > since for run in runs)

    eventually(seen, within_s=within_s, what="it takes its share")
    return time.monotonic() - since


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_on_cut_connections(pool: Pool, stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena(proxied=True)
    worker_set = arena.worker_set(pool, size=WORKERS, supervised=True)
    cuts = 60
    jobs = work(10_000, ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=0.6 * cuts):
        ends = _cut_often(arena, cuts)
    arena.drained()
    note = f"{len(arena.verdict().unexplained)} runs repeated, "
    report(stock_row("connection cut", arena, pool, worker_set, faults=cuts, ends=ends, note=note))
