"""A producer is killed in mid-bulk: each message is whole or absent, and sending again adds none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, ROOT, Arena, Pool
from tests.chaos.ours import Celeriac
from tests.chaos.produce import calls, ids
from tests.chaos.report import row
from tests.chaos.settings import LONG, scale
from tests.chaos.stock import Stock

FAULT = "producer killed in mid-bulk"


def _kill_one(arena: Arena, url: str, number: int, counted: Callable[[], int]) -> int:
    """Let a producer begin to send so many jobs, kill it, and return how many arrived."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.produce", arena.system, url, str(number)], cwd=ROOT
    )
    try:
        before = counted()
        eventually(
            lambda: counted() > before or process.poll() is not None,
            within_s=30,
            what="the producer sends",
        )
        time.sleep(arena.random.uniform(0, 0.02))
    finally:
        process.kill()
        process.wait()
    return counted() - before


@pytest.mark.parametrize("pool", POOLS if LONG else ["prefork"])
def test_each_message_is_whole_or_absent_and_a_second_try_adds_none(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    number, kills, arrived, cut = scale(10_000, 50_000), scale(2, 6), 0, 0
    for _ in range(kills):  # each takes up where the one before was cut off
        now = _kill_one(arena, arena.url, number, lambda: arena.queue.stats().accepted)
        arrived += now
        cut += 0 < arrived < number
    assert cut, "no producer was killed in mid-bulk"
    assert arrived == arena.queue.stats().ready
    receipt = arena.client.send_many("chaos", calls(number))
    assert (receipt.accepted, receipt.duplicates) == (number - arrived, arrived)
    assert {one.id for one in receipt.receipts} == set(ids(number))
    arena.accepted = dict.fromkeys(ids(number), time.monotonic())
    arena.worker_set(pool)
    arena.drained(within_s=300)
    verdict = arena.verdict(dead=arena.dead())
    note = f"{arrived:,} had arrived, and came as duplicates"
    report(row(FAULT, arena, pool, verdict, faults=kills, note=note))
    assert not verdict.violations() and not verdict.dead
    assert not verdict.repeats, "a message was there twice"


def test_stock_celery_runs_what_is_sent_again_again(stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena()
    number = scale(2_000, 10_000)
    url = str(arena._config["broker_url"])
    arrived = _kill_one(arena, url, number, arena.waiting)
    again = [sys.executable, "-m", "tests.chaos.produce", arena.system, url, str(number)]
    subprocess.run(again, cwd=ROOT, check=True, timeout=120)
    arena.accepted = dict.fromkeys(ids(number), time.monotonic())
    arena.worker_set("solo")
    eventually(lambda: not arena.waiting(), within_s=120)
    verdict = arena.verdict()
    note = f"{arrived:,} had arrived, and ran twice"
    report(row(FAULT, arena, "solo", verdict, faults=1, note=note))
