"""Send work to queues without a Celery app: one message, many at once; cancel, progress, numbers.

    client = Client("celeriac://localhost:6379/0")
    client.send("message-delivery", "messaging.send", kwargs={"message_id": "m1"}, priority="high")
    client.send_many("message-indexing", [Job("messaging.index", kwargs={"id": n}) for n in range(9000)])

The messages are Celery's own (protocol 2, JSON): any Celery worker of Celeriac runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self

import redis

from celeriac.broker import signing
from celeriac.broker.connection import from_environment, parse
from celeriac.broker.keys import DEFAULT_PREFIX
from celeriac.broker.message import NewMessage, QueueStats, Receipt
from celeriac.broker.refusal import BrokerRefuses, BrokerUnreachable
from celeriac.broker.replication import Replication
from celeriac.client.job import DEDUP_SECONDS, Job, Seconds, message_of
from celeriac.client.pinned import pinned_client
from celeriac.client.progress import Progress, read_progress
from celeriac.client.publisher import Publisher
from celeriac.spec.errors import CeleriacError

#: One round trip of `send_many` carries at most this, so that no other client waits long.
CHUNK_MESSAGES = 400
CHUNK_BYTES = 800_000


@dataclass(frozen=True, slots=True)
class BulkReceipt:
    """What became of many messages; `receipts` are in the order of the jobs."""

    receipts: list[Receipt]

    @property
    def accepted(self) -> int:
        """Messages that are in the queue now because of this call."""
        return self._count("accepted")

    @property
    def duplicates(self) -> int:
        """Messages whose dedup key was taken."""
        return self._count("duplicate")

    @property
    def refused(self) -> list[Receipt]:
        """Those that were not accepted, with the reason."""
        return [receipt for receipt in self.receipts if receipt.status == "refused"]

    @property
    def not_replicated(self) -> list[Receipt]:
        """Those that were accepted, but that fewer replicas are known to have than were wanted."""
        return [it for it in self.receipts if it.status != "refused" and not it.replicated]

    def _count(self, status: Literal["accepted", "duplicate"]) -> int:
        return sum(receipt.status == status for receipt in self.receipts)


class BulkInterrupted(CeleriacError):
    """The broker went away during `send_many`, or accepts no more messages; `__cause__` says which.

    `receipt` is what it had answered; the jobs in `uncertain` were on their way, and were accepted all
    together or not at all; those in `unsent` never left, or were refused. Jobs carry the ids under which
    they were sent.
    """

    def __init__(
        self,
        receipt: BulkReceipt,
        uncertain: list[Job],
        unsent: list[Job],
        *,
        why: str = "the broker went away",
    ) -> None:
        super().__init__(
            f"{why}: {len(receipt.receipts)} answered, "
            f"{len(uncertain)} uncertain, {len(unsent)} not sent"
        )
        self.receipt = receipt
        self.uncertain = uncertain
        self.unsent = unsent


class Client:
    """A producer for one broker. Threads may share it, and it survives a fork.

    `broker` is a URL (default: CELERIAC_BROKER_URL, else the `celeriac up` that runs in this folder) or a
    redis-py client that returns bytes. Messages are signed when the environment names keys
    (CELERIAC_SIGNING_KEYS). `replication` is for a redis-py client; a URL says it itself (`wait_replicas`,
    `wait_timeout`). Raises BrokerURLError for a URL and SigningKeysError for keys that cannot be used;
    connects when first used. Whatever goes wrong with the broker then, in any method, is a BrokerError;
    BrokerUnreachable is also redis-py's ConnectionError.
    """

    def __init__(
        self,
        broker: str | redis.Redis | None = None,
        *,
        prefix: str | None = None,
        replication: Replication | None = None,
    ) -> None:
        self._owned = not isinstance(broker, redis.Redis)
        if isinstance(broker, redis.Redis):
            self._client = broker
            self.prefix = prefix or DEFAULT_PREFIX
        else:
            url = parse(broker or from_environment())
            self._client = pinned_client(url)
            self.prefix = prefix or url.prefix
            replication = replication or url.replication
        self._publisher = Publisher(
            self._client,
            prefix=self.prefix,
            signing=signing.from_environment(),
            replication=replication,
        )

    def send(
        self,
        queue: str,
        task: str,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        priority: str | int = "normal",
        delay: Seconds = 0,
        expires: Seconds | None = None,
        dedup_key: str | None = None,
        dedup_seconds: Seconds = DEDUP_SECONDS,
        timelimit: tuple[float | None, float | None] | None = None,
        max_attempts: int | None = None,
        ignore_result: bool = True,
        headers: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Send one message and say what became of it; look at the receipt's `status`, and `replicated`.

        `delay` and `expires` count from now, in seconds or as timedelta. A second message with the same
        `dedup_key` within `dedup_seconds` is not accepted: its receipt is `duplicate` and names the
        first. `timelimit` is (hard, soft) in seconds. `max_attempts` comes before the queue's policy.
        Raises TypeError or ValueError for arguments that cannot be sent; BrokerRefuses when the broker is
        full, or lacks disk or replicas; and BrokerUnreachable when it cannot be reached: the message may
        have been accepted then.
        """
        job = Job(
            task,
            args,
            kwargs or {},
            id=id,
            priority=priority,
            delay=delay,
            expires=expires,
            dedup_key=dedup_key,
            dedup_seconds=dedup_seconds,
            timelimit=timelimit,
            max_attempts=max_attempts,
            ignore_result=ignore_result,
            headers=headers,
        )
        return self._publisher.publish(queue, message_of(job))

    def send_many(self, queue: str, jobs: Iterable[Job]) -> BulkReceipt:
        """Send many messages, hundreds in one round trip. Each is accepted whole or not at all.

        A job that cannot be sent raises before its chunk leaves. Raises BulkInterrupted when the broker
        goes away in between, or accepts no more: it is full, or lacks disk or replicas.
        """
        receipts: list[Receipt] = []
        chunks = _Chunks(jobs)
        chunk = chunks.take()
        following: _Chunk = []

        def unsent() -> list[Job]:
            return _with_ids(following) + chunks.rest()

        while chunk:
            with _interruptions(receipts, chunk, unsent):
                answer = self._publisher.ask_publish(queue, [message for _, message in chunk])
            try:
                following = chunks.take()  # while the server works
            finally:
                with _interruptions(receipts, chunk, unsent):
                    receipts += answer()
            chunk, following = following, []
        return BulkReceipt(receipts)

    def cancel(self, queue: str, id: str) -> Literal["cancelled", "requested"]:
        """Cancel a message that waits: `cancelled` at once when delayed, else when it would start."""
        return self._publisher.peek(queue).cancel(id)

    def progress(self, queue: str, id: str) -> Progress | None:
        """What the message's task last reported with `report_progress`."""
        return read_progress(self._publisher.peek(queue), id)

    def stats(self, queue: str) -> QueueStats:
        """Measure a queue now."""
        return self._publisher.peek(queue).stats()

    def close(self) -> None:
        """Close the connections (not those of a client that was given); it can be used again."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_Chunk = list[tuple[Job, NewMessage]]


@contextmanager
def _interruptions(
    receipts: list[Receipt], chunk: _Chunk, unsent: Callable[[], list[Job]]
) -> Iterator[None]:
    """Tell what became of everything when a chunk gets no answer, or is refused as a whole."""
    try:
        yield
    except BrokerUnreachable as error:
        raise BulkInterrupted(BulkReceipt(receipts), _with_ids(chunk), unsent()) from error
    except BrokerRefuses as error:
        left = _with_ids(chunk) + unsent()
        raise BulkInterrupted(BulkReceipt(receipts), [], left, why=f"{error}") from error


def _with_ids(chunk: _Chunk) -> list[Job]:
    return [replace(job, id=message.id) for job, message in chunk]


class _Chunks:
    """Jobs in the portions that travel together, each small enough for one call of the script."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._source = iter(jobs)
        self._ahead: _Chunk = []

    def take(self) -> _Chunk:
        """Take the next portion; it is empty at the end."""
        chunk, self._ahead = self._ahead, []
        size = sum(message.size for _, message in chunk)
        for job in self._source:
            message = message_of(job)
            size += message.size
            if chunk and (len(chunk) == CHUNK_MESSAGES or size > CHUNK_BYTES):
                self._ahead.append((job, message))
                break
            chunk.append((job, message))
        return chunk

    def rest(self) -> list[Job]:
        """Take all jobs that no portion held yet."""
        return [job for job, _ in self._ahead] + list(self._source)
