"""Send work to queues without a Celery app: one message, many at once; cancel, progress, numbers.

    client = Client("celeriac://localhost:6379/0")
    client.send("message-delivery", "messaging.send", kwargs={"message_id": "m1"}, priority="high")
    client.send_many("message-indexing", [Job("messaging.index", kwargs={"id": n}) for n in range(9000)])

The messages are Celery's own (protocol 2, JSON): any Celery worker of Celeriac runs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from os import urandom
from types import TracebackType
from typing import Any, Literal, Self

import redis

from celeriac.broker.connection import from_environment, parse
from celeriac.broker.keys import DEFAULT_PREFIX
from celeriac.broker.message import NewMessage, QueueStats, Receipt
from celeriac.client import envelope
from celeriac.client.direct import direct_client
from celeriac.client.progress import Progress, read_progress
from celeriac.client.publisher import Publisher, priority_of

#: One round trip of `send_many` carries at most this, so that no other client waits long.
CHUNK_MESSAGES = 400
CHUNK_BYTES = 800_000
DEDUP_SECONDS = 3600

Seconds = float | timedelta
_NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    id: str | None = None
    priority: str | int = "normal"
    delay: Seconds = 0
    expires: Seconds | None = None
    dedup_key: str | None = None
    dedup_seconds: Seconds = DEDUP_SECONDS
    timelimit: tuple[float | None, float | None] | None = None
    max_attempts: int | None = None
    ignore_result: bool = True
    headers: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Job(_Options):
    """One call of a task, for `Client.send_many`; the options are those of `Client.send`."""

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


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

    def _count(self, status: Literal["accepted", "duplicate"]) -> int:
        return sum(receipt.status == status for receipt in self.receipts)


class BulkInterrupted(Exception):
    """The broker went away during `send_many`.

    `receipt` is what it had answered; the jobs in `uncertain` were on their way, and were accepted all
    together or not at all; those in `unsent` never left. Jobs carry the ids under which they were sent.
    """

    def __init__(self, receipt: BulkReceipt, uncertain: list[Job], unsent: list[Job]) -> None:
        super().__init__(
            f"the broker went away: {len(receipt.receipts)} answered, "
            f"{len(uncertain)} uncertain, {len(unsent)} not sent"
        )
        self.receipt = receipt
        self.uncertain = uncertain
        self.unsent = unsent


class Client:
    """A producer for one broker. Threads may share it, and it survives a fork.

    `broker` is a URL (default: CELERIAC_BROKER_URL) or a redis-py client that returns bytes.
    Raises BrokerURLError for a URL that cannot be used; connects when first used.
    """

    def __init__(
        self, broker: str | redis.Redis | None = None, *, prefix: str | None = None
    ) -> None:
        if isinstance(broker, redis.Redis):
            self._client = broker
            self.prefix = prefix or DEFAULT_PREFIX
        else:
            url = parse(broker or from_environment())
            self._client = direct_client(url)
            self.prefix = prefix or url.prefix
        self._publisher = Publisher(self._client, prefix=self.prefix)

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
        """Send one message and say what became of it; look at the receipt's `status`.

        `delay` and `expires` count from now, in seconds or as timedelta. A second message with the same
        `dedup_key` within `dedup_seconds` is not accepted: its receipt is `duplicate` and names the
        first. `timelimit` is (hard, soft) in seconds. `max_attempts` comes before the queue's policy.
        Raises TypeError or ValueError for arguments that cannot be sent, and redis-py's ConnectionError
        or TimeoutError when the broker cannot be reached; the message may have been accepted then.
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
        goes away in between.
        """
        receipts: list[Receipt] = []
        chunks = _Chunks(jobs)
        while chunk := chunks.take():
            messages = [message for _, message in chunk]
            try:
                receipts += self._publisher.publish_many(queue, messages)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                uncertain = [replace(job, id=message.id) for job, message in chunk]
                raise BulkInterrupted(BulkReceipt(receipts), uncertain, chunks.rest()) from error
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
        """Close the connections; the client can be used again."""
        self._client.connection_pool.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def message_of(job: Job) -> NewMessage:
    """Build the message of a job: protocol 2, as Celery's own producer would. Pure but for a random id."""
    return NewMessage(
        id=job.id or _new_id(),
        task=job.task,
        body=_body(job.args, job.kwargs),
        head=_head(job),
        priority=priority_of(job.priority),
        delay_ms=_ms(job.delay, "delay") if job.delay else 0,
        ttl_ms=0 if job.expires is None else max(1, _ms(job.expires, "expires")),
        dedup_key=job.dedup_key or "",
        dedup_ttl_ms=max(1, _ms(job.dedup_seconds, "dedup_seconds")) if job.dedup_key else 0,
    )


class _Chunks:
    """Jobs in the portions that travel together, each small enough for one call of the script."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._source = iter(jobs)
        self._ahead: list[tuple[Job, NewMessage]] = []

    def take(self) -> list[tuple[Job, NewMessage]]:
        """Take the next portion; it is empty at the end."""
        chunk, self._ahead = self._ahead, []
        size = sum(_weight(message) for _, message in chunk)
        for job in self._source:
            message = message_of(job)
            size += _weight(message)
            if chunk and (len(chunk) == CHUNK_MESSAGES or size > CHUNK_BYTES):
                self._ahead.append((job, message))
                break
            chunk.append((job, message))
        return chunk

    def rest(self) -> list[Job]:
        """Take all jobs that no portion held yet."""
        return [job for job, _ in self._ahead] + list(self._source)


def _weight(message: NewMessage) -> int:
    return len(message.body) + len(message.head)


def _rich(value: Any) -> Any:
    from kombu.utils.json import JSONEncoder

    return JSONEncoder().default(value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_rich).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":"), default=_rich).encode


def _body(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    if isinstance(args, str | bytes) or not isinstance(kwargs, Mapping):
        raise TypeError("args must be a list or tuple, and kwargs a mapping")
    body = (tuple(args), dict(kwargs), _NO_EMBED)
    try:
        return _encode(body).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can carry it, UTF-8 cannot
        return _encode_ascii(body).encode()


def _new_id() -> str:
    """Make a random UUID (version 4) in half the time of `uuid.uuid4`."""
    digits = urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _head(job: Job) -> bytes:
    if job.headers:
        plain = json.loads(_plain_head(job.ignore_result, job.max_attempts, job.timelimit) or "{}")
        return envelope.encode({**plain.get("h", {}), **job.headers, "id": job.id})
    return _plain_head(job.ignore_result, job.max_attempts, job.timelimit)


@lru_cache(maxsize=256)
def _plain_head(
    ignore_result: bool,
    max_attempts: int | None,
    timelimit: tuple[float | None, float | None] | None,
) -> bytes:
    headers: dict[str, Any] = {"ignore_result": ignore_result}
    if max_attempts is not None:
        headers["max_attempts"] = max_attempts
    if timelimit is not None:
        headers["timelimit"] = list(timelimit)
    return envelope.encode(headers)


def _ms(duration: Seconds, name: str) -> int:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 0:
        raise ValueError(f"{name}: must not be negative, it counts from now")
    return round(seconds * 1000)
