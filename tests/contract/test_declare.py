"""Who declares a queue last: whoever meant to, never one that only found it without a record."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue, QueueNotDeclared
from celeriac.client.publisher import Publisher
from celeriac.spec.policies import Limits, QueuePolicy
from celeriac.worker.consumer import Consumer

POLICY = QueuePolicy(limits=Limits(max_messages=7))


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    return Queue(redis_client, queue_name)


def test_a_record_that_is_there_stays(queue: Queue) -> None:
    assert queue.declare(POLICY, only_if_absent=True) == 1
    assert queue.declare(QueuePolicy(), only_if_absent=True) == 1
    assert queue.record() == (1, POLICY)
    assert queue.declare(QueuePolicy()) == 2


def test_a_queue_that_was_only_paused_by_hand_has_no_policy_yet(queue: Queue) -> None:
    queue.pause()
    Publisher(queue.client).publish(queue.name, NewMessage(id="m", task="t", body=b""))
    assert queue.record()[1] == QueuePolicy()
    assert queue.stats().paused


def test_a_publisher_leaves_a_policy_that_came_in_between(valkey: Any, queue: Queue) -> None:
    class Late(redis.Redis):
        """Somebody declares just after one has looked."""

        def hexists(self, name: Any, key: Any) -> Any:
            answer = super().hexists(name, key)
            queue.declare(POLICY)
            return answer

    with Late(host="127.0.0.1", port=valkey.port, password=valkey.password) as client:
        Publisher(client).publish(queue.name, NewMessage(id="m", task="t", body=b""))
    assert queue.record() == (1, POLICY)
    assert queue.stats().accepted == 1


def test_a_worker_leaves_a_policy_that_came_in_between(queue: Queue) -> None:
    class Late(Queue):
        """Somebody declares just after a worker was told that nobody did."""

        def abandon(self, *args: Any, **options: Any) -> int:
            try:
                return super().abandon(*args, **options)
            except QueueNotDeclared:
                queue.declare(POLICY)
                raise

    consumer = Consumer(Late(queue.client, queue.name), "w", slots=1)
    assert not consumer.claim()
    assert queue.record() == (1, POLICY)
    queue.publish([NewMessage(id="m", task="t", body=b"")])
    assert consumer.claim()
    assert consumer.policy() == POLICY
