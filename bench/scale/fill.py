"""Fills a queue with a great many messages, as fast as the broker's own scripts take them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench import jobs
from celeriac import Job
from celeriac.broker.message import DeadLetter, Failure, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.client.job import message_of

BATCH = 500
TASK = "bench.tasks.noop"
#: What the letters died of: the first is one in two, the last one in a thousand.
ERRORS = ("ConnectionError", "TimeoutError", "ValueError")


def fill(queue: Queue, count: int, *, delay_ms: int = 0) -> int:
    """Publish ``count`` messages with 500 bytes of JSON; return the bytes of one message's body."""
    template = message_of(Job(TASK, (jobs.payload(),)))
    for start in _batches(count, "sent"):
        receipts = queue.publish(
            [
                NewMessage(id=_id(number), task=TASK, body=template.body, delay_ms=delay_ms)
                for number in range(start, min(count, start + BATCH))
            ]
        )
        if any(receipt.status != "accepted" for receipt in receipts):
            raise AssertionError("a message was not accepted")
    return len(template.body)


def bury(queue: Queue, count: int) -> None:
    """Let ``count`` messages that wait die, each with one line of history."""
    for start in _batches(count, "dead"):
        settlements = []
        for number, message in enumerate(queue.claim("undertaker", count=BATCH).messages, start):
            failure = Failure(
                reason="attempts_exhausted",
                error=error_of(number),
                message="the server at mx.example.org refused the message: 451 try again later",
                digest="0123456789ab",
                worker="bench@host:1",
                started_ms=1_700_000_000_000,
                ended_ms=1_700_000_000_250,
            )
            letter = DeadLetter(reason="attempts_exhausted", failure=failure)
            settlements.append(Settlement(message, letter, 250))
        if not all(queue.settle(settlements)):
            raise AssertionError("a lease was lost")


def error_of(number: int) -> str:
    """The error class of a dead letter."""
    return ERRORS[2] if number % 1000 == 0 else ERRORS[number % 2]


def _id(number: int) -> str:
    # As long as Celery's own ids.
    return f"00000000-0000-4000-8000-{number:012}"


def _batches(count: int, what: str) -> Iterator[int]:
    for start in range(0, count, BATCH):
        if count >= 100_000 and start % 100_000 == 0:
            print(f"{start:,} of {count:,} {what}", file=sys.stderr, flush=True)
        yield start
