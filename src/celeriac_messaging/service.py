"""What a messaging backend calls: one typed method for each kind of job.

A payload is validated when it is made, so a job that is enqueued is a job that can run. The same
job sent twice (see `Payload.identity`) is one job: the second receipt says `duplicate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, Unpack

from celeriac import BulkReceipt, Client, Job, Progress, Receipt
from celeriac_messaging.metrics import QueueMetrics, from_stats
from celeriac_messaging.payloads import (
    BatchSend,
    Cleanup,
    DeliveryConfirmation,
    Encryption,
    Indexing,
    Notification,
    Payload,
    SendMessage,
)
from celeriac_messaging.routing import PRIORITIES, QUEUES, ROUTES, max_attempts


class When(TypedDict, total=False):
    """When a job runs: after `delay` (seconds), or `at` a time; never later than `expires`."""

    delay: float | timedelta
    at: datetime
    expires: float | timedelta


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MessageQueueService:
    """Enqueues jobs and answers about them. Safe to share between threads.

    Every method raises the client's connection errors when the broker is away, and ValueError for
    an `at` without a time zone.
    """

    def __init__(
        self,
        client: Client,
        *,
        dedup_seconds: int = 86_400,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._client = client
        self._dedup_seconds = dedup_seconds
        self._now = now

    def send_message(self, job: SendMessage, **when: Unpack[When]) -> Receipt:
        """Deliver one message to one recipient."""
        return self.enqueue(job, **when)

    def confirm_delivery(self, job: DeliveryConfirmation, **when: Unpack[When]) -> Receipt:
        """Note what became of a message at its recipient."""
        return self.enqueue(job, **when)

    def notify(self, job: Notification, **when: Unpack[When]) -> Receipt:
        """Notify one person by push or e-mail."""
        return self.enqueue(job, **when)

    def encrypt(self, job: Encryption, **when: Unpack[When]) -> Receipt:
        """Seal a message's text, or move it under another key."""
        return self.enqueue(job, **when)

    def index(self, job: Indexing, **when: Unpack[When]) -> Receipt:
        """Make a message findable, or take it out of the index."""
        return self.enqueue(job, **when)

    def send_batch(self, job: BatchSend, **when: Unpack[When]) -> Receipt:
        """Send one text to many recipients; a worker makes a message of each."""
        return self.enqueue(job, **when)

    def cleanup(self, job: Cleanup, **when: Unpack[When]) -> Receipt:
        """Remove what is old; usually on the queue's schedule rather than from here."""
        return self.enqueue(job, **when)

    def send_messages(self, jobs: Iterable[SendMessage], **when: Unpack[When]) -> BulkReceipt:
        """`send_message` for many, in few round trips; each is accepted or not by itself."""
        return self._bulk(jobs, SendMessage, when)

    def confirm_deliveries(
        self, jobs: Iterable[DeliveryConfirmation], **when: Unpack[When]
    ) -> BulkReceipt:
        """`confirm_delivery` for many."""
        return self._bulk(jobs, DeliveryConfirmation, when)

    def notify_many(self, jobs: Iterable[Notification], **when: Unpack[When]) -> BulkReceipt:
        """`notify` for many."""
        return self._bulk(jobs, Notification, when)

    def encrypt_many(self, jobs: Iterable[Encryption], **when: Unpack[When]) -> BulkReceipt:
        """`encrypt` for many."""
        return self._bulk(jobs, Encryption, when)

    def index_many(self, jobs: Iterable[Indexing], **when: Unpack[When]) -> BulkReceipt:
        """`index` for many."""
        return self._bulk(jobs, Indexing, when)

    def enqueue(self, job: Payload, **when: Unpack[When]) -> Receipt:
        """Any one job, to the queue that its kind belongs to."""
        route = ROUTES[type(job)]
        kwargs = {"payload": job.wire()}
        return self._client.send(route.queue, route.task, kwargs=kwargs, **self._options(job, when))

    def enqueue_many(self, jobs: Iterable[Payload], **when: Unpack[When]) -> dict[str, BulkReceipt]:
        """Jobs of mixed kinds, grouped by queue; within a queue the order is kept."""
        by_queue: dict[str, list[Job]] = {}
        for job in jobs:
            by_queue.setdefault(ROUTES[type(job)].queue, []).append(self._job(job, when))
        return {queue: self._client.send_many(queue, group) for queue, group in by_queue.items()}

    def progress(self, kind: type[Payload], job_id: str) -> Progress | None:
        """How far a job says it is; None when it has said nothing, or long ago."""
        return self._client.progress(ROUTES[kind].queue, job_id)

    def cancel(self, kind: type[Payload], job_id: str) -> Literal["cancelled", "requested"]:
        """Cancel a job that waits: at once when it is delayed, else when its turn comes."""
        return self._client.cancel(ROUTES[kind].queue, job_id)

    def metrics(self) -> dict[str, QueueMetrics]:
        """Each of the six queues, measured now."""
        return {queue: from_stats(self._client.stats(queue)) for queue in QUEUES}

    def _bulk(self, jobs: Iterable[Payload], kind: type[Payload], when: When) -> BulkReceipt:
        return self._client.send_many(ROUTES[kind].queue, [self._job(job, when) for job in jobs])

    def _job(self, job: Payload, when: When) -> Job:
        kwargs = {"payload": job.wire()}
        return Job(ROUTES[type(job)].task, kwargs=kwargs, **self._options(job, when))

    def _options(self, job: Payload, when: When) -> dict[str, Any]:
        """The message's options, which depend on the job's urgency and identity."""
        options: dict[str, Any] = {
            "priority": PRIORITIES[job.urgency],
            "max_attempts": max_attempts(job.urgency),
            "delay": self._delay(when),
            "expires": when.get("expires"),
        }
        job_id = job.job_id
        if job_id is not None:
            options |= {"id": job_id, "dedup_key": job_id, "dedup_seconds": self._dedup_seconds}
        return options

    def _delay(self, when: When) -> float | timedelta:
        at = when.get("at")
        if at is None:
            return when.get("delay", 0)
        if at.tzinfo is None:
            raise ValueError("at: must have a time zone, like datetime.now(UTC)")
        return max(at - self._now(), timedelta(0))
