"""The broker is full: it keeps what it has, takes nothing more, and says so; workers make room again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from redis.exceptions import OutOfMemoryError

from celeriac import BrokerRefuses, BulkInterrupted
from celeriac import Job as Call
from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, STOCK_POOLS, Arena, Job, Pool, work
from tests.chaos.load import feeding
from tests.chaos.ours import Celeriac
from tests.chaos.report import row, stock_row
from tests.chaos.servers import servers
from tests.chaos.settings import scale
from tests.chaos.stock import Stock

#: Room for some hundreds of messages of 2 kB, and, when they are gone, for the ids of all that are sent.
ROOM = scale(1_500_000, 6_000_000)
FAULT = "maxmemory reached"
PADDING = "x" * 2000


def _limit(arena: Arena, room: int) -> None:
    """Let the server hold so many bytes more than it does."""
    with arena.as_admin() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + room)


def _calls(jobs: list[Job]) -> list[Call]:
    return [
        Call(job.task, (job.id, *job.args), id=job.id, dedup_key=job.id, headers={"pad": PADDING})
        for job in jobs
    ]


def _fill(arena: Celeriac, jobs: list[Job]) -> list[Job]:
    """Send jobs until the broker is full, and return those that it did not take."""
    with pytest.raises(BulkInterrupted, match="maxmemory") as caught:
        arena.client.send_many("chaos", _calls(jobs))
    told = caught.value
    assert isinstance(told.__cause__, BrokerRefuses)
    assert not told.uncertain, "a refusal leaves no doubt"
    taken = told.receipt.accepted
    assert 0 < taken < len(jobs) and taken + len(told.unsent) == len(jobs)
    assert arena.queue.stats().accepted == taken + len(arena.accepted), (
        "it is not told exactly what was accepted"
    )
    arena.accepted.update(dict.fromkeys((job.id for job in jobs[:taken]), time.monotonic()))
    return jobs[taken:]


def _refusals(arena: Celeriac) -> None:
    """Whoever publishes hears that the broker is full, and leaves nothing behind."""
    before = arena.queue.stats()
    keys = set(arena.queue.client.keys("*"))
    with pytest.raises(OutOfMemoryError, match="the broker is full"):
        arena.client.send("chaos", "chaos.work", args=("one", 0), dedup_key="one")
    app = Celery("producer", broker=arena.url, set_as_current=False)
    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    for retry in (False, True):
        with pytest.raises(Exception, match="the broker is full"):
            app.send_task("chaos.work", ("app", 0), queue="chaos", retry=retry, retry_policy=policy)
    app.close()
    after = arena.queue.stats()
    assert (after.accepted, after.ready) == (before.accepted, before.ready)
    assert {key for key in arena.queue.client.keys("*") if b"kombu" not in key} == keys


@contextmanager
def _trying(arena: Celeriac, jobs: list[Job], taken: list[str]) -> Iterator[None]:
    """Send one part after another, each until there is room for it."""
    failed: list[BaseException] = []

    def feed() -> None:
        for at in range(0, len(jobs), 50):
            part = _calls(jobs[at : at + 50])
            while part:
                try:
                    receipts = arena.client.send_many("chaos", part).receipts
                    part = []
                except BulkInterrupted as error:
                    receipts, part = error.receipt.receipts, error.unsent
                    time.sleep(0.01)
                except Exception as error:  # noqa: BLE001
                    failed.append(error)
                    return
                if any(receipt.status != "accepted" for receipt in receipts):
                    failed.append(AssertionError(receipts))
                taken.extend(receipt.id for receipt in receipts)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    yield
    thread.join(300)
    assert not thread.is_alive() and not failed, failed


@pytest.mark.parametrize("server", servers())
@pytest.mark.parametrize("pool", POOLS)
def test_a_full_broker_refuses_and_is_drained(
    pool: Pool, server: Any, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(binary=server.binary())
    arena.client.send("chaos", "chaos.work", args=("first", 0), id="first")
    arena.accepted["first"] = time.monotonic()
    _limit(arena, ROOM)
    rest = _fill(arena, work(scale(2_000, 12_000), ms=lambda: arena.random.choice([0, 0, 1])))
    started, taken = time.monotonic(), list[str]()
    arena.queue.client.config_set(
        "maxmemory", 1
    )  # whatever buffers the server gives back meanwhile
    _refusals(arena)
    _limit(arena, 0)
    with _trying(arena, rest, taken):
        arena.worker_set(pool)  # it starts, and works, on the full broker
        eventually(lambda: arena.ended_since(started), within_s=10, what="workers drain")
    arena.accepted.update(dict.fromkeys(taken, time.monotonic()))
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    note = f"{server.name}; {len(rest)} jobs waited outside"
    report(row(FAULT, arena, pool, verdict, faults=1, note=note))
    assert not verdict.lost and not verdict.dead and not verdict.repeats
    assert not verdict.strangers, "a refused message ran"
    assert stats.done == verdict.jobs
    assert taken == [job.id for job in rest]


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(pool: Pool, stock_arena: Callable, report: Callable):
    """Its workers are there before: none starts on a full broker."""
    arena: Stock = stock_arena()
    worker_set = arena.worker_set(pool, supervised=True)
    jobs = work(10_000, ms=lambda: arena.random.choice([0, 0, 1]))
    with feeding(arena, jobs, seconds=10):
        eventually(lambda: arena.ended_since(0), within_s=10, what="workers work")
        _limit(arena, 0)
        eventually(lambda: arena.uncertain, within_s=30, what="it is full")
        time.sleep(10)
        _limit(arena, 2**30)
    arena.drained(within_s=300)
    report(stock_row(FAULT, arena, pool, worker_set, faults=1))
