"""An idle worker's claim waits on the server with it: one answer, and nothing lost on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import DONE, Message, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.consumer import LONGEST_WAIT_S, WHEN_WOKEN, Consumer


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    queue = Queue(redis_client, queue_name)
    queue.declare(QueuePolicy())
    queue.claim("nobody", count=1)  # which found nothing, and so left no wake-up
    return queue


@pytest.fixture
def far(valkey: Any, queue: Queue) -> Iterator[Queue]:
    """The same queue over connections of its own, which bear its name."""
    client = valkey.client(client_name=queue.name)
    yield Queue(client, queue.name)
    client.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def sleeper(queue: Queue) -> str:
    """Wait until the far one sleeps on the server; return the number of its connection."""

    def found() -> str:
        clients = [it for it in queue.client.client_list() if it["name"] == queue.name]
        return next((it["id"] for it in clients if it["cmd"] == "blpop" and "b" in it["flags"]), "")

    return eventually(found)


def publish(queue: Queue, *ids: str) -> None:
    queue.publish([NewMessage(id=id_, task="t", body=b"") for id_ in ids])


def ready(queue: Queue) -> int:
    return queue.stats().ready


def test_what_comes_meanwhile_is_in_the_answer(
    queue: Queue, far: Queue, threads: ThreadPoolExecutor
) -> None:
    claim = threads.submit(far.claim_when_woken, "w", count=1, timeout_s=10)
    sleeper(queue)
    assert not queue.stats().leased
    publish(queue, "a", "b")
    assert [it.id for it in claim.result(5).messages] == ["a"]
    assert ready(queue) == 1
    assert queue.wait(0.01), "the next one is woken for the rest"


def test_when_nothing_comes_it_has_claimed_all_the_same(queue: Queue) -> None:
    queue.publish([NewMessage(id="later", task="t", body=b"", delay_ms=100)])
    while queue.wait(0.01):
        pass
    claim = queue.claim_when_woken("w", count=1, timeout_s=0.3)
    assert [it.id for it in claim.messages] == ["later"]
    claim = queue.claim_when_woken("w", count=1, timeout_s=0.05)
    assert (claim.messages, claim.next_due_ms) == ([], -1)


def test_a_server_that_lost_its_scripts_is_told_them_again(queue: Queue) -> None:
    publish(queue, "a")
    queue.client.script_flush()
    assert [it.id for it in queue.claim_when_woken("w", count=1, timeout_s=1).messages] == ["a"]


def test_whoever_is_gone_gets_nothing(
    queue: Queue, far: Queue, threads: ThreadPoolExecutor
) -> None:
    claim = threads.submit(far.claim_when_woken, "w", count=1, timeout_s=10)
    queue.client.client_kill_filter(_id=sleeper(queue))
    with pytest.raises(redis.ConnectionError):
        claim.result(5)
    publish(queue, "a")
    assert (ready(queue), queue.stats().leased) == (1, 0)


def test_an_error_of_the_sleep_is_told_and_what_was_claimed_is_taken_back(queue: Queue) -> None:
    consumer = Consumer(queue, "w", slots=1)
    assert not consumer.claim(), "one that found nothing, and will sleep at once"
    publish(queue, "a")
    queue.client.set(queue.keys.wake, "something else")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        queue.claim_when_woken("v", count=1, timeout_s=1)
    assert queue.stats().leased == 1
    queue.abandon("v")
    queue.client.set(queue.keys.wake, "something else")
    assert not consumer.claim(), "it has slept for a moment, as in any trouble"
    assert consumer.claim()
    assert isinstance(consumer.inflight.waiting.get_nowait(), Message)
    assert queue.stats().leased == 1


def test_a_worker_that_wakes_takes_one_and_then_what_it_has_room_for(
    queue: Queue, far: Queue, threads: ThreadPoolExecutor
) -> None:
    consumer = Consumer(far, "w", slots=3)
    claimed = threads.submit(consumer.claim)
    sleeper(queue)
    publish(queue, "a", "b", "c", "d")
    assert claimed.result(5)
    assert consumer.inflight.waiting.qsize() == WHEN_WOKEN
    assert consumer.claim()
    assert consumer.inflight.waiting.qsize() == 3
    assert ready(queue) == 1


def test_an_idle_worker_asks_less_than_twice_a_second(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:  # one that nobody else asks anything
        client = connect(server.url)
        queue = Queue(client, "alone")
        queue.declare(QueuePolicy())
        consumer = Consumer(queue, "w", slots=1)
        assert not consumer.claim()
        before, started = calls(client), time.monotonic()
        while time.monotonic() - started < 4 * LONGEST_WAIT_S:
            consumer.claim()
        each_s = (calls(client) - before) / (time.monotonic() - started)
        client.close()
    assert 1 < each_s < 1.8


def calls(client: redis.Redis) -> int:
    """How many of a worker's requests the server has served."""
    stats: Any = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("blpop", "evalsha"))


def test_a_message_that_came_before_it_slept_wakes_it_at_once(queue: Queue) -> None:
    consumer = Consumer(queue, "w", slots=1)
    assert not consumer.claim()
    publish(queue, "a")
    started = time.monotonic()
    assert consumer.claim()
    assert time.monotonic() - started < 0.5
    message = consumer.inflight.waiting.get_nowait()
    assert message is not None and consumer.begin(message)
    consumer.finish(Settlement(message, DONE, 1))
    assert queue.stats().done == 1
