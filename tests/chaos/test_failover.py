"""A primary is parted from its replicas and goes on writing; the Sentinels replace it; the parts meet again.

What clients told the old primary meanwhile is gone: unless it refused to write without replicas, or they
waited to hear that a replica has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from celeriac.chaos.faults import Fault
from celeriac.chaos.processes import WorkerSet, eventually
from tests.chaos.arena import POOLS, STOCK_POOLS, Arena, Pool, work
from tests.chaos.load import all_resume, feeding, resumed_s
from tests.chaos.ours import Celeriac
from tests.chaos.report import row, stock_row
from tests.chaos.sentinels import SentinelSet
from tests.chaos.settings import LONG, scale
from tests.chaos.stock import Stock

WORKERS = 2
WAIT = "wait_replicas=1&wait_timeout=0.5"
#: How replicas are asked for: name, the primary's min-replicas-to-write, options of the URL.
WAYS = {
    "as it is": (0, ""),
    "min-replicas 1": (1, ""),
    "WAIT 1": (0, WAIT),
    "WAIT 1, min-replicas 1": (1, WAIT),
}
SHORT = ("as it is", "WAIT 1, min-replicas 1")


def _splits(arena: Arena, worker_set: WorkerSet, *, splits: int, jobs: int) -> list[float]:
    """Split the machines while jobs are sent and run; return when each split was over.

    Workers stand still from the election to the end, or they might run at the old primary what is lost with
    it. It goes on for some seconds after the parts have met: so long Sentinels let it be.
    """
    machines: SentinelSet = arena.server
    ends = []
    arena.broker_tail_s = 1.0
    with feeding(arena, work(jobs, ms=20), seconds=10.0 * splits):
        for _ in range(splits):
            eventually(partial(arena.ended_since, time.monotonic()), within_s=20, what="work")
            at = time.monotonic()
            with ExitStack() as still, machines.split(hold_s=0.5) as (old, new):
                assert old is not new
                for worker in worker_set.workers:
                    still.enter_context(arena.frozen(worker))
            ends.append(time.monotonic())
            arena.journal.append(Fault(kind="failover", at=at, until=ends[-1]))
    return ends


@pytest.mark.parametrize("pool", POOLS if LONG else ["threads"])
@pytest.mark.parametrize("way", WAYS if LONG else SHORT)
def test_a_failover_loses_only_what_nobody_waited_for(
    way: str, pool: Pool, tmp_path: Path, celeriac_arena: Callable, report: Callable
):
    min_replicas, options = WAYS[way]
    machines = SentinelSet(tmp_path / "machines", min_replicas=min_replicas, options=options)
    arena: Celeriac = celeriac_arena(server=machines)
    worker_set = arena.worker_set(pool, size=WORKERS)
    splits = scale(1, 8)
    ends = _splits(arena, worker_set, splits=splits, jobs=scale(1_000, 10_000))
    all_resume(arena, worker_set)
    arena.drained(within_s=600, forgetful=True)
    verdict = arena.verdict(dead=arena.dead())
    name, recovery_s = f"failover, {way}", resumed_s(arena, ends)
    note = verdict.why
    report(row(name, arena, pool, verdict, faults=splits, recovery_s=recovery_s, note=note))
    if options:
        assert not verdict.lost, verdict.lost[:5]
    else:
        first = min(fault.at for fault in arena.journal) - arena.broker_tail_s
        assert all(arena.accepted[job] >= first for job in verdict.lost)
    if way == "as it is":
        assert verdict.lost, "the split cost nothing: it was none"
    assert not verdict.dead and not verdict.strangers
    assert not verdict.unexplained, verdict.unexplained[:5]


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(
    pool: Pool, tmp_path: Path, stock_arena: Callable, report: Callable
):
    arena: Stock = stock_arena(server=SentinelSet(tmp_path / "machines"))
    worker_set = arena.worker_set(pool, size=WORKERS, supervised=True)
    ends = _splits(arena, worker_set, splits=8, jobs=10_000)
    arena.drained(within_s=600)
    report(stock_row("failover, as it is", arena, pool, worker_set, faults=8, ends=ends))
