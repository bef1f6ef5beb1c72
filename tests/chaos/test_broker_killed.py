"""The broker is killed under load and comes back with what its append-only file holds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from celeriac.chaos.checker import Verdict, forgotten
from celeriac.chaos.processes import WorkerSet, eventually
from celeriac.chaos.table import Row
from tests.chaos.arena import LEASE_S, POOLS, STOCK_POOLS, Arena, Job, Pool, work
from tests.chaos.load import all_resume, feeding, resumed_s
from tests.chaos.ours import Celeriac
from tests.chaos.report import row, stock_row
from tests.chaos.settings import LONG, scale
from tests.chaos.stock import Stock

WORKERS = 2
#: What `appendfsync everysec` may hold back, by its documentation: "in the worst case ... 2 seconds".
EVERYSEC_S = 2.0


def _kill_often(
    arena: Arena, worker_set: WorkerSet, *, kills: int, harm: Callable[[], None] | None = None
) -> None:
    """Kill the broker while workers are at work and the producer publishes."""
    for number in range(kills):
        since = time.monotonic()
        eventually(partial(arena.ended_since, since), within_s=10, what="a worker resumes")
        arena.catch_busy(worker_set)
        time.sleep(arena.random.uniform(0.3, 1.0))
        # The first time, it stays away for longer than a lease.
        down_s = arena.random.uniform(0, 0.3) if number else LEASE_S + 0.5
        arena.restart_broker(down_s=down_s, harm=harm)


def _line(fault: str, arena: Arena, pool: Pool, verdict: Verdict, note: str = "") -> Row:
    faults, recovery_s = len(arena.journal), resumed_s(arena, [it.until for it in arena.journal])
    return row(fault, arena, pool, verdict, faults=faults, recovery_s=recovery_s, note=note)


@pytest.mark.parametrize("pool", POOLS)
def test_a_broker_that_writes_always_forgets_nothing_when_killed(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(appendfsync="always")
    worker_set = arena.worker_set(pool, size=WORKERS)
    kills = scale(2, 10)
    jobs = work(scale(10_000, 20_000), ms=lambda: arena.random.choice([0, 0, 1]))
    arena.send_surely([Job("long", args=(2500 + 1000 * LEASE_S,))])  # runs through the long outage
    with feeding(arena, jobs, seconds=1.5 * kills):
        _kill_often(arena, worker_set, kills=kills)
    all_resume(arena, worker_set)
    stats = arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead())
    report(_line("broker SIGKILL, AOF always", arena, pool, verdict, verdict.why))
    assert not verdict.lost and not verdict.dead and not verdict.strangers
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert stats.done == verdict.jobs
    assert stats.redelivered == 0, "an outage of the broker is no worker's death"
    assert len(arena.history.of("long")) == 1
    assert arena.logs("holding what is leased") >= WORKERS, "no worker noticed"


class _PowerCut:
    """What a power cut leaves of an append-only file: everything but the newest second."""

    def __init__(self, folder: Path, lost_s: float) -> None:
        self._folder = folder
        self._lost_s = lost_s
        self._sizes: list[tuple[float, int]] = []
        self._stopped = threading.Event()
        self._safe = 0
        """What an earlier cut has left, which is on the disk."""
        self.bytes_lost = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def __call__(self) -> None:
        """Cut off what was written in the last second; the server must be down."""
        file = self._file()
        before = time.monotonic() - self._lost_s
        kept = max([self._safe, *(size for at, size in self._sizes if at <= before)])
        self.bytes_lost += file.stat().st_size - kept
        os.truncate(file, kept)
        self._safe = kept
        self._sizes.clear()

    def _file(self) -> Path:
        return max(self._folder.glob("appendonlydir/*.incr.aof"))

    def _watch(self) -> None:
        while not self._stopped.wait(0.02):
            with suppress(ValueError, OSError):
                self._sizes.append((time.monotonic(), self._file().stat().st_size))


@pytest.mark.parametrize("pool", POOLS if LONG else ["threads"])
def test_a_broker_that_writes_every_second_forgets_the_last_seconds_at_most(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(appendfsync="everysec")
    arena.broker_tail_s = EVERYSEC_S
    worker_set = arena.worker_set(pool, size=WORKERS)
    kills = scale(2, 10)
    jobs = work(scale(10_000, 20_000), ms=lambda: arena.random.uniform(0, 1))
    cut = _PowerCut(arena.server.data_dir, lost_s=1.0)
    with feeding(arena, jobs, seconds=1.5 * kills):
        _kill_often(arena, worker_set, kills=kills, harm=cut)
    cut.stop()
    all_resume(arena, worker_set)
    arena.drained(within_s=300, forgetful=True)
    verdict = arena.verdict(dead=arena.dead())
    oldest_s = forgotten(verdict.lost, arena.accepted, arena.journal)
    note = f"{cut.bytes_lost:,} bytes cut off; the oldest lost job was {oldest_s:.1f} s old"
    report(_line("power cut, AOF everysec", arena, pool, verdict, note))
    assert cut.bytes_lost > 0
    assert oldest_s <= EVERYSEC_S
    assert not verdict.dead and not verdict.strangers
    assert not verdict.unexplained, verdict.unexplained[:5]


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(pool: Pool, stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena(appendfsync="always")
    worker_set = arena.worker_set(pool, size=WORKERS, supervised=True)
    jobs = work(10_000, ms=lambda: arena.random.uniform(0, 1))
    with feeding(arena, jobs, seconds=15):
        _kill_often(arena, worker_set, kills=10)
    arena.drained()
    ends = [fault.until for fault in arena.journal]
    name = "broker SIGKILL, AOF always"
    report(stock_row(name, arena, pool, worker_set, faults=len(ends), ends=ends))
