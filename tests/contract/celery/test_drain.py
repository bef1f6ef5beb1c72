"""How a worker ends: drained, out of grace, at once, or killed; and what becomes of its messages."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from contract_worker import SLOTS, Watched

from celeriac.broker.message import Message
from celeriac.chaos.processes import eventually
from celeriac.spec.pools import POOLS

every_pool = pytest.mark.parametrize("pool", POOLS)


def _take_over(watched: Watched) -> list[Message]:
    return watched.queue.claim("the-test", count=100).messages


def _fill(watched: Watched, seconds: float) -> list[object]:
    """Give every slot a long task."""
    naps = [watched.send("nap", seconds, ignore_result=True) for _ in range(SLOTS[watched.pool])]
    for nap in naps:
        watched.noted(nap, "started")
    return naps


@every_pool
def test_sigterm_lets_what_runs_finish_and_hands_back_the_rest(
    fresh: Watched, queue_name: str, pool: str
) -> None:
    fresh.start(pool)
    for _ in range(60):  # short tasks, so that the worker claims ahead
        fresh.send("nothing", ignore_result=True)
    fresh.settled()
    fresh.queue.pause()
    naps = [fresh.send("nap", 0.6, priority=0) for _ in range(SLOTS[pool])]
    for number in range(30):
        fresh.send("leave_mark", queue_name, number, priority=9)
    fresh.queue.resume()
    for nap in naps:
        fresh.noted(nap, "started")
    fresh.signal(signal.SIGTERM)
    assert fresh.wait() == 0
    assert [fresh.texts(nap)[-1] for nap in naps] == ["ended"] * len(naps)
    stats = fresh.queue.stats()
    assert (stats.leased, stats.delayed, stats.redelivered, stats.imbalance) == (0, 0, 0, 0)
    marked = {int(record["number"]) for record in fresh.notes(queue_name)}
    back = _take_over(fresh)
    assert len(back) == 30 - len(marked) == stats.ready
    assert {message.delivery for message in back} <= {1}
    assert {message.lost for message in back} <= {0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_drains_too(fresh: Watched, number: int) -> None:
    fresh.start("prefork").wait_ready()
    naps = _fill(fresh, 0.4)
    fresh.signal(number, group=True)
    assert fresh.wait() == 0
    assert [fresh.texts(nap) for nap in naps] == [["started", "ended"]] * 2
    stats = fresh.queue.stats()
    assert (stats.done, stats.unfinished, stats.redelivered) == (2, 0, 0)


@every_pool
def test_a_drain_that_takes_too_long_hands_back_what_runs(fresh: Watched, pool: str) -> None:
    fresh.start(pool, "--drain", 0.3).wait_ready()
    naps = _fill(fresh, 20)
    fresh.signal(signal.SIGTERM)
    begun = time.monotonic()
    assert fresh.wait() == 0
    assert 0.3 <= time.monotonic() - begun < 3
    stats = fresh.queue.stats()
    assert (stats.ready, stats.leased, stats.redelivered) == (len(naps), 0, 0)
    assert [(message.delivery, message.attempt) for message in _take_over(fresh)] == [(1, 0)] * len(
        naps
    )


@every_pool
def test_a_second_sigterm_stops_at_once(fresh: Watched, pool: str) -> None:
    fresh.start(pool, "--drain", 30).wait_ready()
    naps = _fill(fresh, 20)
    fresh.signal(signal.SIGTERM)
    eventually(lambda: "drains" in fresh.log)
    fresh.signal(signal.SIGTERM)
    assert fresh.wait(within=3) == 0
    stats = fresh.queue.stats()
    assert (stats.ready, stats.leased, stats.redelivered) == (len(naps), 0, 0)


@pytest.mark.parametrize(
    ("pool", "name"),
    [("solo", "successor"), ("threads", ""), ("prefork", ""), ("prefork", "successor")],
)
def test_a_killed_workers_message_runs_again(fresh: Watched, pool: str, name: str) -> None:
    """All messages are acknowledged late: only a finished attempt takes one off the queue.

    A worker of the same name takes back at once what its predecessor held, any other when the lease ends.
    """
    fresh.start(pool).wait_ready()
    nap = fresh.send("nap", 0.5)
    fresh.noted(nap, "started")
    fresh.end()
    assert fresh.queue.stats().leased == 1
    fresh.start(pool, *(["--name", name] if name else []))
    assert nap.get(timeout=10) == "rested"
    assert fresh.texts(nap) == ["started", "started", "ended"]
    assert fresh.settled().redelivered == 1


def test_children_of_a_killed_parent_go_with_it(fresh: Watched) -> None:
    fresh.start("prefork").wait_ready()
    nap = fresh.send("nap", 30)
    child = fresh.noted(nap, "started")["pid"]
    fresh.end()
    eventually(lambda: not _alive(child), within_s=2)


def test_a_child_is_replaced_after_its_share_of_tasks(fresh: Watched, queue_name: str) -> None:
    fresh.start("prefork", CONTRACT_MAX_TASKS="5")
    for number in range(40):
        fresh.send("leave_mark", queue_name, number, ignore_result=True)
    stats = fresh.settled()
    records = fresh.notes(queue_name)
    assert sorted(record["number"] for record in records) == list(range(40))
    assert max(Counter(record["pid"] for record in records).values()) <= 5
    assert {record["delivery"] for record in records} == {1}
    assert (stats.done, stats.redelivered) == (40, 0)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
