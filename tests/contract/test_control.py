"""The control loop on a real broker: real workers where they matter, two loops where they meet."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from celeriac.backend.fake import FakeBackend
from celeriac.backend.local import LocalBackend
from celeriac.backend.output import LogFiles
from celeriac.broker.message import DeadLetter, Failure, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.control.broker import RedisBroker
from celeriac.control.loop import Loop
from celeriac.control.source import FixedSource
from celeriac.spec.queue import MessageQueue

APP = """
import time
from celery import Celery
app = Celery("yard")

@app.task
def nap(seconds):
    time.sleep(seconds)
"""
LONG_S = 60.0


def declared(name: str, **spec: Any) -> MessageQueue:
    worker = {"app": "yard:app", "pool": "Solo", "leaseSeconds": 60, "drainSeconds": 20}
    return MessageQueue.model_validate(
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": name},
            "spec": {
                "worker": worker | spec.pop("worker", {}),
                "autoscaling": {"scaleDownDelaySeconds": 1} | spec.pop("autoscaling", {}),
                **spec,
            },
        }
    )


def nap(id_: str, seconds: float, **given: Any) -> NewMessage:
    body = f'[[{seconds}],{{}},{{"callbacks":null,"errbacks":null,"chain":null,"chord":null}}]'
    return NewMessage(id=id_, task="yard.nap", body=body.encode(), **given)


class HandClock:
    """A clock that stands where it is put."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    return Queue(redis_client, queue_name, lease_ms=60_000)


@pytest.fixture
def backend(valkey: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    (tmp_path / "yard.py").write_text(APP)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    made = LocalBackend(broker_url=valkey.url, output=LogFiles(tmp_path / "logs"))
    yield made
    made.close()


def rounds(loop: Loop, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < deadline, loop.statuses()
        loop.round()
        time.sleep(0.05)


def test_a_message_starts_a_worker_and_its_end_stops_it(
    backend: LocalBackend, queue: Queue, redis_client: redis.Redis
) -> None:
    spec = declared(queue.name)
    loop = Loop(backend=backend, broker=RedisBroker(redis_client), source=FixedSource([spec]))
    loop.round()
    assert backend.pids(spec) == {}

    queue.publish([nap("1", 0.1), nap("2", 0, delay_ms=1500)])
    rounds(loop, lambda: queue.stats().done == 2)
    rounds(loop, lambda: not backend.pids(spec))

    status = loop.statuses()[queue.name]
    assert (status.desired_replicas, queue.stats().imbalance) == (0, 0)
    rounds(loop, lambda: queue.stats().workers == [])  # those that left are forgotten


@pytest.mark.parametrize("pool", ["Solo", "Prefork"])
def test_what_a_killed_worker_ran_is_run_again_long_before_its_lease_ends(
    backend: LocalBackend, queue: Queue, redis_client: redis.Redis, pool: str
) -> None:
    spec = declared(queue.name, worker={"pool": pool, "concurrency": 1})
    loop = Loop(backend=backend, broker=RedisBroker(redis_client), source=FixedSource([spec]))
    loop.round()
    queue.publish([nap("1", 2)])
    rounds(loop, lambda: queue.stats().leased == 1)
    (pid,) = backend.pids(spec).values()
    os.kill(pid, signal.SIGKILL)

    started = time.monotonic()
    rounds(loop, lambda: queue.stats().done == 1)

    assert time.monotonic() - started < 30
    assert (queue.stats().redelivered, queue.stats().imbalance) == (1, 0)


def test_due_and_orphaned_messages_are_ready_again_though_no_worker_runs(
    queue: Queue, redis_client: redis.Redis
) -> None:
    """The fake backend starts nobody, so only the loop can have moved them."""
    spec = declared(queue.name, worker={"leaseSeconds": 3}, autoscaling={"maxReplicas": 1})
    queue.declare(spec.spec.policy)
    queue.publish([nap("orphan", 0), nap("due", 0, delay_ms=200)])
    queue.claim("somebody-who-vanished", count=1)
    loop = Loop(backend=FakeBackend(), broker=RedisBroker(redis_client), source=FixedSource([spec]))

    rounds(loop, lambda: queue.stats().ready == 2)

    assert queue.stats().leased == 0


def test_a_broken_app_is_told_with_its_own_words(
    backend: LocalBackend, queue: Queue, redis_client: redis.Redis
) -> None:
    spec = declared(queue.name, worker={"app": "nowhere:app"}, autoscaling={"minReplicas": 1})
    loop = Loop(backend=backend, broker=RedisBroker(redis_client), source=FixedSource([spec]))

    def stalled() -> bool:
        status = loop.statuses().get(queue.name)
        conditions = {it.type: it for it in status.conditions} if status else {}
        return bool(conditions) and conditions["Stalled"].reason == "WorkersFailing"

    rounds(loop, stalled)

    (stall,) = [it for it in loop.statuses()[queue.name].conditions if it.type == "Stalled"]
    assert "exit code 2" in stall.message


def test_two_loops_send_one_message_for_a_due_time(queue: Queue, redis_client: redis.Redis) -> None:
    schedule = {"name": "clean", "cron": "* * * * *", "task": "yard.nap", "args": [0]}
    spec = declared(queue.name, schedules=[schedule])
    clock = HandClock(datetime(2026, 1, 31, 9, 30, 30, tzinfo=UTC))
    loops = [
        Loop(
            backend=FakeBackend(),
            broker=RedisBroker(redis_client),
            source=FixedSource([spec]),
            clock=clock,
        )
        for _ in range(2)
    ]
    for _ in range(4):
        for loop in loops:
            loop.round()
        clock.at += timedelta(seconds=30)

    assert queue.stats().accepted == 2
    late = Loop(
        backend=FakeBackend(),
        broker=RedisBroker(redis_client),
        source=FixedSource([spec]),
        clock=clock,
    )
    clock.at += timedelta(minutes=20)
    late.round()
    assert queue.stats().accepted == 3
    assert late.statuses()[queue.name].schedules[0].next_due_time == "2026-01-31T09:53:00Z"


def test_old_dead_letters_go_and_a_removed_queue_is_purged_if_it_says_so(
    queue: Queue, redis_client: redis.Redis
) -> None:
    spec = declared(queue.name, deletionPolicy="Purge")
    source = FixedSource([spec])
    loop = Loop(backend=FakeBackend(), broker=RedisBroker(redis_client), source=source)
    loop.round()
    queue.publish([nap("dead", 0), nap("ready", 0), nap("delayed", 0, delay_ms=3_600_000)])
    message = queue.claim("w", count=1).messages[0]
    failure = Failure(reason="failed")
    queue.settle([Settlement(message, DeadLetter(reason="x", failure=failure), 1)])
    loop.round()
    assert (queue.stats().dead, queue.stats().unfinished) == (1, 2)

    source.replace([])
    for _ in range(5):
        loop.round()

    stats = queue.stats()
    assert (stats.dead, stats.unfinished, stats.purged, stats.imbalance) == (0, 0, 3, 0)
