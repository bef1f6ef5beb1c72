"""What a job becomes on its way out: queue, urgency, identity and time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac import BulkReceipt, Client, Job, Receipt
from celeriac_messaging.errors import TransientError
from celeriac_messaging.payloads import (
    BatchRecipient,
    BatchSend,
    EmailRecipient,
    Indexing,
    SendMessage,
)
from celeriac_messaging.service import MessageQueueService
from celeriac_messaging.tasks.send_batch import send_batch
from celeriac_messaging.wiring import Tools

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
AMINA = EmailRecipient(channel="email", email="amina@example.org")


class Outbox(Client):
    """Sends nowhere: keeps the jobs, and answers what the test says."""

    def __init__(self, *, refuse_from: int = 10**9) -> None:
        super().__init__("celeriac://nowhere")
        self.jobs: list[tuple[str, Job]] = []
        self.refuse_from = refuse_from

    def send(self, queue: str, task: str, **options: Any) -> Receipt:
        (receipt,) = self.send_many(queue, [Job(task, **options)]).receipts
        return receipt

    def send_many(self, queue: str, jobs: Iterable[Job]) -> BulkReceipt:
        receipts = []
        for job in jobs:
            refused = len(self.jobs) >= self.refuse_from
            self.jobs.append((queue, job))
            receipts.append(
                Receipt(job.id or "made", *(("refused", "full") if refused else ("accepted",)))
            )
        return BulkReceipt(receipts)


def message(**changes: Any) -> SendMessage:
    fields = {"tenant": "t", "message_id": "m-1", "sender": "s", "body": "x", "recipient": AMINA}
    return SendMessage.model_validate({**fields, **changes})


def sent(job: Any, **when: Any) -> Job:
    outbox = Outbox()
    MessageQueueService(outbox, dedup_seconds=60, now=lambda: NOW).enqueue(job, **when)
    ((_, found),) = outbox.jobs
    return found


def test_a_job_is_known_by_its_identity() -> None:
    first, again = sent(message()), sent(message(body="written again"))
    assert first.id == first.dedup_key == again.dedup_key == message().job_id
    assert first.dedup_seconds == 60


@pytest.mark.parametrize(
    ("urgency", "priority"),
    [("critical", "high"), ("realtime", "high"), ("normal", "normal"), ("bulk", "low")],
)
def test_urgency_is_priority(urgency: str, priority: str) -> None:
    assert sent(message(urgency=urgency)).priority == priority


def test_what_is_critical_brings_its_own_attempts() -> None:
    critical, normal = (
        sent(Indexing(tenant="t", message_id="a", text="x", urgency=urgency))
        for urgency in ("critical", "normal")
    )
    assert (critical.max_attempts, normal.max_attempts) == (5, None)


@pytest.mark.parametrize(
    ("when", "delay"),
    [
        ({}, 0),
        ({"delay": 60}, 60),
        ({"at": NOW + timedelta(minutes=5)}, timedelta(minutes=5)),
        ({"at": NOW - timedelta(minutes=5)}, timedelta(0)),
    ],
)
def test_a_later_time_is_a_delay(when: dict[str, Any], delay: object) -> None:
    assert sent(message(), **when).delay == delay


def test_a_job_that_expires_says_so() -> None:
    assert sent(message(), expires=30).expires == 30


BATCH = BatchSend(
    tenant="t",
    batch_id="b",
    sender="s",
    body="Hello",
    recipients=[
        BatchRecipient(
            recipient=EmailRecipient(channel="email", email=f"reader{number}@example.org")
        )
        for number in range(120)
    ],
)


def _tools(outbox: Outbox) -> Tools:
    service = MessageQueueService(outbox)
    parts: dict[str, Any] = dict.fromkeys(
        ("store", "mailer", "webhooks", "push", "search", "vault")
    )
    return Tools(**parts, queues=lambda: service, now_ms=lambda: 0)


def test_a_batch_becomes_a_message_for_everybody() -> None:
    outbox = Outbox()
    assert send_batch(BATCH, _tools(outbox)) == "enqueued 120 of 120"
    assert len({job.id for _, job in outbox.jobs}) == 120
    assert {queue for queue, _ in outbox.jobs} == {"message-delivery"}


def test_a_batch_that_the_queue_refuses_is_not_done() -> None:
    with pytest.raises(TransientError, match="refused 3 of 50: full"):
        send_batch(BATCH, _tools(Outbox(refuse_from=97)))
