"""The service on a real broker: where each job goes, and that sending twice is sending once."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from celeriac import Client
from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from celeriac.client.progress import QueueProgress, current
from celeriac.spec.policies import QueuePolicy
from celeriac_messaging.metrics import quantile
from celeriac_messaging.payloads import (
    BatchRecipient,
    BatchSend,
    Cleanup,
    DeliveryConfirmation,
    EmailRecipient,
    EmailTarget,
    Encryption,
    Indexing,
    Notification,
    Payload,
    SendMessage,
    load,
)
from celeriac_messaging.routing import QUEUES, ROUTES
from celeriac_messaging.service import MessageQueueService
from celeriac_messaging.tasks.send_batch import send_batch
from celeriac_messaging.wiring import Tools

AMINA = EmailRecipient(channel="email", email="amina@example.org")
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def message(number: int = 1, **changes: Any) -> SendMessage:
    fields = {"tenant": "t", "message_id": f"m-{number}", "sender": "s", "body": "Привіт"}
    return load(SendMessage, {**fields, "recipient": AMINA.model_dump(), **changes})


JOBS: list[tuple[str, Payload, str, str]] = [
    ("send_message", message(), "message-delivery", "normal"),
    (
        "confirm_delivery",
        DeliveryConfirmation(tenant="t", message_id="m", recipient=AMINA, state="read", at=NOW),
        "message-delivery",
        "normal",
    ),
    (
        "notify",
        Notification(
            tenant="t",
            notification_id="n",
            target=EmailTarget(channel="email", email="amina@example.org"),
            title="x",
            body="y",
            urgency="realtime",
        ),
        "message-notification",
        "high",
    ),
    (
        "encrypt",
        Encryption(tenant="t", message_id="m", operation="seal", text="x"),
        "message-encryption",
        "normal",
    ),
    ("index", Indexing(tenant="t", message_id="m", text="x"), "message-indexing", "normal"),
    (
        "send_batch",
        BatchSend(
            tenant="t",
            batch_id="b",
            sender="s",
            body="x",
            recipients=[BatchRecipient(recipient=AMINA)],
        ),
        "batch-message-sending",
        "low",
    ),
    (
        "cleanup",
        Cleanup(tenant="t", what=["effects"], older_than_days=30),
        "message-cleanup",
        "low",
    ),
]


class Broker:
    """The six queues under a prefix of the test's own, and what lies in them."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.queues = {name: Queue(client, name, prefix=prefix) for name in QUEUES}
        for queue in self.queues.values():
            queue.declare(QueuePolicy())
        self.service = MessageQueueService(Client(client, prefix=prefix), now=lambda: NOW)

    def claim(self, queue: str, count: int = 100) -> list[Message]:
        return self.queues[queue].claim("tester", count=count).messages


@pytest.fixture
def broker(redis_client: redis.Redis, queue_name: str) -> Broker:
    return Broker(redis_client, queue_name)


@pytest.mark.parametrize(("method", "job", "queue", "priority"), JOBS)
def test_each_kind_goes_to_its_queue(
    method: str, job: Payload, queue: str, priority: str, broker: Broker
) -> None:
    receipt = getattr(broker.service, method)(job)
    assert receipt.status == "accepted"
    (found,) = broker.claim(queue)
    assert found.task == ROUTES[type(job)].task
    assert found.priority == priority
    assert found.id == receipt.id == (job.job_id or receipt.id)
    _args, kwargs, _embed = json.loads(found.body)
    assert load(type(job), kwargs["payload"]) == job


def test_what_is_critical_brings_its_own_attempts(broker: Broker) -> None:
    broker.service.index(Indexing(tenant="t", message_id="a", text="x", urgency="critical"))
    broker.service.index(Indexing(tenant="t", message_id="b", text="x"))
    critical, normal = broker.claim("message-indexing")
    assert (critical.priority, normal.priority) == ("high", "normal")
    assert json.loads(critical.head)["h"]["max_attempts"] == 5
    assert b"max_attempts" not in normal.head


def test_the_same_job_twice_is_one_job(broker: Broker) -> None:
    first = broker.service.send_message(message())
    second = broker.service.send_message(message(body="written again"))
    assert (first.status, second.status) == ("accepted", "duplicate")
    assert first.id == second.id
    assert len(broker.claim("message-delivery")) == 1


def test_many_at_once(broker: Broker) -> None:
    bulk = broker.service.send_messages(message(number % 450) for number in range(500))
    assert (bulk.accepted, bulk.duplicates, bulk.refused) == (450, 50, [])
    mixed = broker.service.enqueue_many([job for _method, job, _queue, _priority in JOBS])
    assert {queue: one.accepted for queue, one in mixed.items()} == {
        queue: 2 if queue == "message-delivery" else 1 for queue in QUEUES
    } | {"message-delivery": 1}  # m-1 was among the first


def test_a_job_for_later(broker: Broker) -> None:
    broker.service.send_message(message(1), delay=60)
    broker.service.send_message(message(2), at=NOW + timedelta(minutes=5))
    broker.service.send_message(message(3), at=NOW - timedelta(minutes=5))
    assert [one.id for one in broker.claim("message-delivery")] == [message(3).job_id]
    assert broker.service.metrics()["message-delivery"].delayed == 2
    with pytest.raises(ValueError, match="time zone"):
        broker.service.send_message(message(4), at=NOW.replace(tzinfo=None))


def test_a_job_that_waits_can_be_cancelled(broker: Broker) -> None:
    receipt = broker.service.send_message(message(), delay=60)
    assert broker.service.cancel(SendMessage, receipt.id) == "cancelled"
    now = broker.service.metrics()["message-delivery"]
    assert (now.delayed, now.discarded, now.imbalance) == (0, 1, 0)


def test_metrics_know_all_six_queues(broker: Broker) -> None:
    broker.service.send_messages(message(number) for number in range(3))
    metrics = broker.service.metrics()
    assert list(metrics) == list(QUEUES)
    now = metrics["message-delivery"]
    assert (now.accepted, now.ready, now.unfinished, now.imbalance) == (3, 3, 3, 0)
    assert now.wait_p50_ms is None


def test_quantiles() -> None:
    bounds = (10, 100, 1_000)
    assert quantile(bounds, (0, 0, 0, 0), 50) is None
    assert quantile(bounds, (5, 4, 1, 0), 50) == 10
    assert quantile(bounds, (5, 4, 1, 0), 99) == 1_000
    assert quantile(bounds, (1, 0, 0, 9), 50) is None


def test_a_batch_becomes_messages_once(broker: Broker, tools: Tools) -> None:
    job = BatchSend(
        tenant="t",
        batch_id="b",
        sender="s",
        body="Hello $name",
        recipients=[
            BatchRecipient(
                recipient=EmailRecipient(channel="email", email=f"reader{number}@example.org"),
                variables={"name": str(number)},
            )
            for number in range(120)
        ],
    )
    tools = dataclasses.replace(tools, queues=lambda: broker.service)
    receipt = broker.service.send_batch(job)
    assert broker.service.progress(BatchSend, receipt.id) is None
    sink = QueueProgress(broker.queues["batch-message-sending"], receipt.id)
    as_in_a_worker = current.set(sink)
    assert send_batch(job, tools) == "enqueued 120 of 120"
    current.reset(as_in_a_worker)
    progress = broker.service.progress(BatchSend, receipt.id)
    assert progress is not None
    assert (progress.done, progress.total, progress.note) == (120, 120, "messages enqueued")
    assert send_batch(job, tools) == "enqueued 0 of 120"
    found = broker.claim("message-delivery", 200)
    assert len(found) == 120
    assert {one.priority for one in found} == {"low"}
    payload = json.loads(found[7].body)[1]["payload"]
    assert load(SendMessage, payload).body == "Hello 7"
