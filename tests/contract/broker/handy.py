"""Short words for what nearly every test of the broker does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celeriac.broker.message import (
    DONE,
    Message,
    NewMessage,
    Outcome,
    Settlement,
)
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy


def policy(**fields: Any) -> QueuePolicy:
    """Make a policy from fields as they are written in YAML."""
    return QueuePolicy.model_validate(fields)


def new(name: str = "m", **fields: Any) -> NewMessage:
    """Make a message."""
    return NewMessage(**{"id": name, "task": "t", "body": b"[[], {}, {}]"} | fields)


def some(count: int, name: str = "m", **fields: Any) -> list[NewMessage]:
    """Make messages m0, m1, ..."""
    return [new(f"{name}{number}", **fields) for number in range(count)]


def ids(messages: Sequence[Message]) -> list[str]:
    """Name messages."""
    return [message.id for message in messages]


def claim(queue: Queue, count: int = 100, consumer: str = "w", held: int = 0) -> list[Message]:
    """Claim messages."""
    return queue.claim(consumer, count=count, held=held).messages


def settle(
    queue: Queue, messages: Sequence[Message], outcome: Outcome = DONE, run_ms: int | None = 1
) -> list[bool]:
    """Give all the same outcome."""
    return queue.settle([Settlement(message, outcome, run_ms) for message in messages])


def one(queue: Queue, name: str = "m", **fields: Any) -> Message:
    """Publish a message, and claim it."""
    queue.publish([new(name, **fields)])
    (message,) = claim(queue)
    return message


def drain(queue: Queue, consumer: str = "w", count: int = 256) -> list[str]:
    """Finish everything that is ready; return the ids in the order in which they came."""
    done: list[str] = []
    while True:
        got = queue.claim(consumer, count=count)
        if not got.messages and not got.again:
            return done
        assert all(settle(queue, got.messages))
        done += ids(got.messages)


def pause_ms(milliseconds: int) -> None:
    """Let the server's clock go on."""
    time.sleep(milliseconds / 1000)
