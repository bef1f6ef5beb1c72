"""Many queues in one read: the same numbers as one by one, whatever is wrong with one of them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import redis

from celeriac.broker.bulk_stats import BulkStats
from celeriac.broker.keys import QueueKeys
from celeriac.broker.message import NewMessage, QueueStats
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy


@pytest.fixture
def names(redis_client: redis.Redis, queue_name: str) -> list[str]:
    found = [f"{queue_name}-{number}" for number in range(450)]
    for name in found[:3]:
        Queue(redis_client, name).declare(QueuePolicy())
    return found


def test_the_numbers_are_those_of_each_queue(redis_client: redis.Redis, names: list[str]) -> None:
    many = BulkStats(redis_client)
    queue = Queue(redis_client, names[1])
    queue.publish([NewMessage(id=str(n), task="t", body=b"[]") for n in range(5)])
    queue.claim("worker", count=2)
    for _ in range(2):
        for name, found in zip(names, many.measure(names), strict=True):
            assert isinstance(found, QueueStats)
            alone = Queue(redis_client, name).stats()
            assert replace(found, now_ms=0, oldest_ready_ms=0) == replace(
                alone, now_ms=0, oldest_ready_ms=0
            )


def test_what_changes_is_seen_and_so_is_the_time(
    redis_client: redis.Redis, names: list[str]
) -> None:
    many = BulkStats(redis_client)
    (first,) = many.measure(names[:1])
    time.sleep(0.02)
    (second,) = many.measure(names[:1])
    assert isinstance(first, QueueStats) and isinstance(second, QueueStats)
    assert second.now_ms >= first.now_ms + 20
    Queue(redis_client, names[0]).publish([NewMessage(id="1", task="t", body=b"[]")])
    (third,) = many.measure(names[:1])
    time.sleep(0.02)
    (fourth,) = many.measure(names[:1])
    assert isinstance(third, QueueStats) and isinstance(fourth, QueueStats)
    assert (third.ready, third.accepted) == (1, 1)
    assert fourth.oldest_ready_ms >= third.oldest_ready_ms + 20


def test_one_that_cannot_be_read_is_not_the_others_trouble(
    redis_client: redis.Redis, names: list[str]
) -> None:
    redis_client.set(QueueKeys.of(names[1]).record, "not a hash")
    found = BulkStats(redis_client).measure(names[:3])
    assert isinstance(found[1], redis.ResponseError)
    assert isinstance(found[0], QueueStats) and isinstance(found[2], QueueStats)


def test_a_server_that_forgot_the_script_is_told_it_again(
    redis_client: redis.Redis, names: list[str]
) -> None:
    many = BulkStats(redis_client)
    many.measure(names[:1])
    redis_client.script_flush()
    assert isinstance(many.measure(names[:1])[0], QueueStats)


def test_a_server_that_is_away_is_told_as_such(names: list[str]) -> None:
    nobody = redis.Redis(port=1, socket_connect_timeout=1)
    with pytest.raises(redis.ConnectionError):
        BulkStats(nobody).measure(names[:1])
    nobody.close()
